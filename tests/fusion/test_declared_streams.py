"""A fusion declares the modalities that it reads, and training refuses the streams that it would ignore."""

import numpy as np
import pytest
import torch

from affuse.cache.store import Features, FeatureStore, Row
from affuse.errors import RecipeError
from affuse.fusion._fusion import Fusion
from affuse.manifest import Clip, Manifest
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train
from affuse.training.model import EmotionModel

DIMS = {"audio": 4, "text": 5, "visual": 3}
QUICK = ("training.epochs=1", "training.folds=2", "fusion.width=8", "fusion.heads=2")


@pytest.fixture
def corpus(tmp_path):
    """A manifest of eight clips, and a store with audio, visual and text features."""
    rng = np.random.default_rng(0)
    clips = [Clip(f"clip{i}", speaker=f"s{i % 4}", emotion=("angry", "happy")[i // 4], valence=0.0) for i in range(8)]
    store = FeatureStore(tmp_path / "features")
    for modality, dim in DIMS.items():
        rows = [
            (Row(clip.id, n_frames=3), Features(rng.normal(size=(3, dim)).astype(np.float32), np.arange(3) / 4))
            for clip in clips
        ]
        details = {"name": f"made-{modality}", "modality": modality, "dim": dim, "dtype": "float16"}
        store.write(f"made-{modality}-0", "0", details, rows)
    return Manifest(clips), FeatureStore(store.path)


@pytest.mark.parametrize("name", ["avtca", "averformer"])
def test_training_refuses_a_stream_that_the_fusion_would_ignore(corpus, name, tmp_path):
    manifest, store = corpus
    recipe = Recipe.read(name, override=QUICK)
    with pytest.raises(RecipeError) as caught:
        train(recipe, manifest, store, out=tmp_path / "run")
    message = str(caught.value)
    assert "reads streams of the modalities audio, visual and would ignore text" in message
    assert "The given streams are audio, text, visual" in message
    assert "--stream KEY" in message and "streams.modalities = ['audio', 'visual']" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("remedy", ["streams", "modalities"])
def test_both_remedies_in_the_message_work(corpus, remedy, tmp_path):
    manifest, store = corpus
    keep = ("streams.modalities=['audio', 'visual']",) if remedy == "modalities" else ()
    streams = ("made-audio-0", "made-visual-0") if remedy == "streams" else ()
    recipe = Recipe.read("avtca", override=(*QUICK, *keep))
    run = train(recipe, manifest, store, out=tmp_path / "run", streams=streams, workers=1)
    assert set(run.metadata.streams) == {"audio", "visual"}


def test_a_model_of_version_0_1_0_with_an_ignored_stream_still_loads(tmp_path):
    model = EmotionModel.build(
        {name: (dim,) for name, dim in DIMS.items()},
        ("avtca", {"width": 8, "heads": 2}),
        ("separate", {}),
        emotions=("angry", "happy"),
        dimensions=(),
    )
    model.save(tmp_path / "model.safetensors")
    loaded = EmotionModel.load(tmp_path / "model.safetensors")
    for found, expected in zip(loaded.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_fusion_without_a_declaration_reads_every_stream():
    class Plain(Fusion):
        def forward(self, streams): ...

    Plain(DIMS).check_streams()
