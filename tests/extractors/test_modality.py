"""A new modality is one word: nothing has to be registered for encoders or imported features."""

from pathlib import Path

import numpy as np
import pytest

from affuse.cache.importing import import_features
from affuse.cache.store import FeatureStore
from affuse.engines._extraction import extract
from affuse.errors import EncoderError, StoreError
from affuse.extractors._loading import load_encoder
from affuse.manifest import Clip, Manifest
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train

from ..media_files import write_clip
from ..small import Words

WORDS = f"{Words.__module__}.Words"


class Shouting(Words):
    """An encoder with a name of a modality that is not a lower-case word."""

    modality = "Loud Text"


def test_text_and_physiology_pass_through_store_training_and_prediction(tmp_path: Path) -> None:
    clips = [
        Clip(
            f"{i}",
            video=write_clip(tmp_path / f"{i}.wav", seconds=0.3, video=False, audio_codec="pcm_s16le", seed=i),
            speaker=f"s{i % 4}",
            emotion=("calm", "happy")[i // 4 % 2],
            valence=0.5,
        )
        for i in range(16)
    ]
    manifest, store = Manifest(clips), FeatureStore(tmp_path / "features")
    key = extract(manifest, [WORDS], store).keys[WORDS]
    (tmp_path / "pulse").mkdir()
    for clip in clips:
        np.save(tmp_path / "pulse" / f"{clip.id}.npy", np.full((4, 3), float(clip.emotion == "happy"), np.float32))
    import_features(tmp_path / "pulse", store, name="pulse", modality="physio", rate=4)
    assert store.specification(key)["modality"] == "text"
    recipe = Recipe.read("concat", override=["training.epochs=2", "training.folds=2"])
    run = train(recipe, manifest, store, out=tmp_path / "run", device="cpu", workers=1)
    assert set(run.metadata.streams) == {"text", "physio"}
    posterior = run.predict(manifest, store, device="cpu")
    assert len(posterior) == 16 and np.isfinite(posterior.probabilities).all()


def test_a_modality_that_is_not_a_lower_case_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="modality 'Loud Text'; expected one lower-case word"):
        load_encoder(f"{Shouting.__module__}.Shouting")
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.float32))
    with pytest.raises(StoreError, match="modality 'Audio'; expected one lower-case word"):
        import_features(tmp_path, FeatureStore(tmp_path / "store"), name="x", modality="Audio")
