"""Samples: streams by name, clips that lack one, labels that lack, batches with little padding."""

import numpy as np
import pytest
import torch

from affuse.cache.store import Features, FeatureStore, Row
from affuse.errors import MissingFeatures, RecipeError
from affuse.manifest import Clip, Manifest
from affuse.training.dataset import choose_streams, gather, padding_waste, per_speaker, statistics, timed


def test_the_only_key_of_a_modality_is_called_after_it(corpus):
    _, store = corpus
    assert choose_streams(store) == {"audio": "made-audio-0", "visual": "made-visual-0"}
    assert choose_streams(store, modalities=("visual",)) == {"visual": "made-visual-0"}
    assert choose_streams(store, asked=["made-a"]) == {"audio": "made-audio-0"}
    assert choose_streams(store, asked=["audio:x=made-audio"]) == {"audio:x": "made-audio-0"}


def test_several_keys_of_a_modality_are_called_by_their_names(tmp_path):
    store = FeatureStore(tmp_path)
    for name in ("whisper", "wavlm"):
        facts = {"name": name, "modality": "audio", "dim": 2}
        store.write(f"{name}-0", "0", facts, [(Row("a", n_frames=1), Features(np.ones((1, 2)), np.zeros(1)))])
    assert choose_streams(FeatureStore(tmp_path)) == {"audio:wavlm": "wavlm-0", "audio:whisper": "whisper-0"}


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (["mode-audio-0"], MissingFeatures, "did you mean 'made-audio-0'"),
        (["made"], MissingFeatures, "begins several keys"),
        (["visual=made-audio"], RecipeError, "cannot be called 'visual'"),
        (["audio=made-audio", "audio=made-audio"], RecipeError, "two streams called audio"),
    ],
)
def test_wrong_streams_are_answered(corpus, asked, error, words):
    with pytest.raises(error, match=words):
        choose_streams(corpus[1], asked=asked)


def test_an_empty_store_says_what_to_run(tmp_path):
    with pytest.raises(MissingFeatures, match="affuse extract"):
        choose_streams(FeatureStore(tmp_path))


def samples_of(manifest, store, **options):
    return gather(manifest, store, choose_streams(store), emotions=manifest.emotions, dimensions=["valence"], **options)


def test_a_clip_without_labels_or_streams_teaches_nothing_but_is_kept(making, tmp_path):
    both = [("s0-angry-0", "audio"), ("s0-angry-0", "visual"), ("s1-sad-0", "audio")]
    manifest, store = making(tmp_path, lacking=both)
    stranger = Clip("s0-happy-0", speaker="s0")
    manifest = Manifest([stranger if c.id == stranger.id else c for c in manifest])
    samples = samples_of(manifest, store)
    assert len(samples) == len(manifest)
    gone = set(samples.ids) - set(samples.labelled().ids)
    assert gone == {"s0-angry-0", "s0-happy-0"}


def test_statistics_are_those_of_all_steps_and_survive_an_offset(corpus):
    manifest, store = corpus
    samples = samples_of(manifest, store)
    clips = [s.streams["audio"] for s in samples.samples]
    together = np.concatenate([np.asarray(c.values, np.float64) for c in clips])
    for offset in (0, 4096):
        shifted = [c._replace(values=c.values.astype(np.float32) + offset) for c in clips]
        mean, deviation = statistics(shifted)
        np.testing.assert_allclose(mean, together.mean(0) + offset, rtol=1e-5)
        np.testing.assert_allclose(deviation, together.std(0), rtol=1e-3)


def test_per_speaker_every_speaker_has_mean_zero_and_labels_are_not_used(corpus):
    manifest, store = corpus
    samples, notices = per_speaker(samples_of(manifest, store))
    own = np.concatenate([s.streams["visual"].values for s in samples.samples if s.id.startswith("s3")])
    np.testing.assert_allclose(own.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(own.std(0), 1, atol=1e-3)
    assert notices == []
    few, notices = per_speaker(samples_of(manifest[:12], store))
    assert "s1" in notices[0] and "s0" not in notices[0]
    with pytest.raises(RecipeError, match="no speaker"):
        per_speaker(samples_of(Manifest(Clip(c.id) for c in manifest), store))


def test_every_row_comes_once_in_batches_of_similar_length():
    """Sequences as long as MER 2023's, the two streams of a clip in proportion."""
    generator = np.random.default_rng(0)
    seconds = generator.uniform(2, 7, size=600)

    def features(rate):
        return [Features(np.zeros((int(s * rate), 1), np.float16), np.zeros(int(s * rate))) for s in seconds]

    from affuse.training.dataset import CachedDataset, Sample

    rows = zip(features(10), features(5), strict=True)
    samples = CachedDataset(
        tuple(Sample(str(i), {"audio": a, "visual": v}, 0, np.zeros(0)) for i, (a, v) in enumerate(rows)),
        (None,) * 600,
        {"audio": (1,), "visual": (1,)},
        ("x",),
        (),
    )
    order = torch.randperm(600, generator=torch.Generator().manual_seed(1)).tolist()
    plan = samples.plan(32, order=order, generator=torch.Generator().manual_seed(1))
    assert sorted(row for rows in plan for row in rows) == list(range(600))
    assert padding_waste(samples.batch(rows) for rows in plan) < 0.15
    again = samples.plan(32, order=order, generator=torch.Generator().manual_seed(1))
    assert again == plan


def test_steps_without_a_time_cover_the_clip_evenly():
    sound = Features(np.zeros((4, 1)), np.array([0.25, 0.75, 1.25, 1.75]))
    faces = Features(np.zeros((2, 1)), np.full(2, np.nan))
    found = timed({"audio": sound, "visual": faces, "visual:x": None})
    np.testing.assert_allclose(found["visual"].times, [0.5, 1.5])
    assert found["audio"] is sound and found["visual:x"] is None
    np.testing.assert_allclose(timed({"visual": faces})["visual"].times, [0.5, 1.5])
