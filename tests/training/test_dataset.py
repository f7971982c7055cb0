"""Datasets: choice of streams, clips without a stream or label, statistics, batches with little padding."""

import numpy as np
import pytest
import torch

from affuse.cache.store import Features, FeatureStore, Row
from affuse.errors import MissingFeatures, RecipeError
from affuse.manifest import Clip, Manifest
from affuse.training.dataset import CachedDataset, Sample, gather, padding_share
from affuse.training.standardisation import standardise_per_speaker, statistics
from affuse.training.streams import choose_streams, fill_times


def test_only_key_of_a_modality_is_named_after_the_modality(corpus):
    _, store = corpus
    assert choose_streams(store) == {"audio": "made-audio-0", "visual": "made-visual-0"}
    assert choose_streams(store, modalities=("visual",)) == {"visual": "made-visual-0"}
    assert choose_streams(store, requests=["made-a"]) == {"audio": "made-audio-0"}
    assert choose_streams(store, requests=["audio:x=made-audio"]) == {"audio:x": "made-audio-0"}


def test_several_keys_of_a_modality_are_named_after_their_features(tmp_path):
    store = FeatureStore(tmp_path)
    for name in ("whisper", "wavlm"):
        facts = {"name": name, "modality": "audio", "dim": 2}
        store.write(f"{name}-0", "0", facts, [(Row("a", n_frames=1), Features(np.ones((1, 2)), np.zeros(1)))])
    assert choose_streams(FeatureStore(tmp_path)) == {"audio:wavlm": "wavlm-0", "audio:whisper": "whisper-0"}


@pytest.mark.parametrize(
    ("requests", "error", "words"),
    [
        (["mode-audio-0"], MissingFeatures, "did you mean 'made-audio-0'"),
        (["made"], MissingFeatures, "Several keys of"),
        (["visual=made-audio"], RecipeError, "cannot be called 'visual'"),
        (["audio=made-audio", "audio=made-audio"], RecipeError, "name audio"),
    ],
)
def test_wrong_requests_are_refused(corpus, requests, error, words):
    with pytest.raises(error, match=words):
        choose_streams(corpus[1], requests=requests)


def test_empty_store_names_the_command_to_run(tmp_path):
    with pytest.raises(MissingFeatures, match="affuse extract"):
        choose_streams(FeatureStore(tmp_path))


def dataset_of(manifest, store, **options):
    return gather(manifest, store, choose_streams(store), emotions=manifest.emotions, dimensions=["valence"], **options)


def test_clip_without_labels_or_streams_is_kept_but_not_trained_on(making, tmp_path):
    both = [("s0-angry-0", "audio"), ("s0-angry-0", "visual"), ("s1-sad-0", "audio")]
    manifest, store = making(tmp_path, lacking=both)
    unlabelled = Clip("s0-happy-0", speaker="s0")
    manifest = Manifest([unlabelled if c.id == unlabelled.id else c for c in manifest])
    dataset = dataset_of(manifest, store)
    assert len(dataset) == dataset.n_clips == len(manifest)
    assert set(dataset.ids) - set(dataset.labelled().ids) == {"s0-angry-0", "s0-happy-0"}


def test_statistics_cover_all_steps_and_are_exact_despite_an_offset(corpus):
    manifest, store = corpus
    clips = [s.streams["audio"] for s in dataset_of(manifest, store).samples]
    together = np.concatenate([np.asarray(c.values, np.float64) for c in clips])
    for offset in (0, 4096):
        shifted = [c._replace(values=c.values.astype(np.float32) + offset) for c in clips]
        mean, deviation = statistics(shifted)
        np.testing.assert_allclose(mean, together.mean(0) + offset, rtol=1e-5)
        np.testing.assert_allclose(deviation, together.std(0), rtol=1e-3)


def test_standardisation_per_speaker_gives_every_speaker_mean_zero(corpus):
    manifest, store = corpus
    dataset, notices = standardise_per_speaker(dataset_of(manifest, store))
    own = np.concatenate([s.streams["visual"].values for s in dataset.samples if s.id.startswith("s3")])
    np.testing.assert_allclose(own.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(own.std(0), 1, atol=1e-3)
    assert notices == []
    _, notices = standardise_per_speaker(dataset_of(manifest[:12], store))
    assert "s1" in notices[0] and "s0" not in notices[0]
    with pytest.raises(RecipeError, match="54 clips without a speaker"):
        standardise_per_speaker(dataset_of(Manifest(Clip(c.id) for c in manifest), store))


def test_every_clip_is_in_one_batch_with_clips_of_similar_length():
    """Sequences have the lengths of MER 2023, and the two streams of a clip are proportional."""
    generator = np.random.default_rng(0)
    seconds = generator.uniform(2, 7, size=600)

    def features(rate):
        return [Features(np.zeros((int(s * rate), 1), np.float16), np.zeros(int(s * rate))) for s in seconds]

    rows = zip(features(10), features(5), strict=True)
    dataset = CachedDataset(
        tuple(Sample(str(i), {"audio": a, "visual": v}, 0, np.zeros(0)) for i, (a, v) in enumerate(rows)),
        {"audio": (1,), "visual": (1,)},
        ("x",),
        (),
    )
    order = torch.randperm(600, generator=torch.Generator().manual_seed(1)).tolist()
    plan = dataset.plan(32, order=order, generator=torch.Generator().manual_seed(1))
    assert sorted(row for rows in plan for row in rows) == list(range(600))
    assert padding_share(dataset.batch(rows) for rows in plan) < 0.15
    again = dataset.plan(32, order=order, generator=torch.Generator().manual_seed(1))
    assert again == plan


def test_steps_without_times_are_spread_evenly_over_the_clip():
    sound = Features(np.zeros((4, 1)), np.array([0.25, 0.75, 1.25, 1.75]))
    faces = Features(np.zeros((2, 1)), np.full(2, np.nan))
    found = fill_times({"audio": sound, "visual": faces, "visual:x": None})
    np.testing.assert_allclose(found["visual"].times, [0.5, 1.5])
    assert found["audio"] is sound and found["visual:x"] is None
    np.testing.assert_allclose(fill_times({"visual": faces})["visual"].times, [0.5, 1.5])
