"""Augmentation changes media by the amount in the settings, and equally for equal seeds."""

import numpy as np
import pytest

from affuse.corpora.demo import make_demo_corpus
from affuse.media.inputs import Frames, Media, Sound, Source
from affuse.media.read import read
from affuse.recipes.encoder_settings import AugmentationSettings
from affuse.training.media_augmentation import add_background_noise, augment_media, crop
from affuse.training.prefetch import MediaReader

RATE = 16_000


def make_audio(seconds=2.0, seed=0):
    samples = 0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return Media(samples.astype(np.float32), np.zeros(0, np.float32), seconds)


def make_frames(n=10, fps=5.0):
    frames = np.random.default_rng(1).integers(0, 255, (n, 16, 24, 3), dtype=np.uint8)
    return Media(frames, ((np.arange(n) + 0.5) / fps).astype(np.float32), n / fps)


def augment(settings, seed=0):
    return augment_media([make_audio(), make_frames()], settings, generator=np.random.default_rng(seed))


def signal_to_noise(clean, mixed):
    """Return the signal-to-noise ratio in decibels."""
    noise = mixed.astype(np.float64) - clean
    return 10 * np.log10(np.square(clean, dtype=np.float64).mean() / np.square(noise).mean())


def test_the_default_settings_change_nothing():
    audio, frames = augment(AugmentationSettings())
    np.testing.assert_array_equal(audio.values, make_audio().values)
    np.testing.assert_array_equal(frames.values, make_frames().values)


@pytest.mark.parametrize("level", [5, 10, 20])
@pytest.mark.parametrize("recorded", [False, True])
def test_noise_has_the_given_signal_to_noise_ratio(level, recorded):
    recordings = [np.sin(np.arange(n) / 7).astype(np.float32) for n in (700, 9000)] * recorded
    clean = make_audio().values
    mixed = add_background_noise(clean, recordings, level, np.random.default_rng(0))
    assert signal_to_noise(clean, mixed) == pytest.approx(level, abs=0.01)


def test_noise_is_drawn_in_whole_decibels_as_in_mer_noise():
    settings, clean = AugmentationSettings(snr=(5, 10)), make_audio().values
    found = {round(signal_to_noise(clean, augment(settings, seed)[0].values), 2) for seed in range(60)}
    assert found == {5.0, 6.0, 7.0, 8.0, 9.0, 10.0}


def test_audio_and_frames_are_cropped_to_the_same_segment():
    audio, frames = augment(AugmentationSettings(crop=0.8), seed=3)
    assert len(audio.values) == round(0.8 * RATE) and len(frames.values) in (4, 5)
    start = np.flatnonzero(make_audio().values == audio.values[0])[0] / RATE
    original = make_frames()
    first = int(np.argmax(original.times >= start))
    np.testing.assert_array_equal(frames.values[0], original.values[first])
    assert frames.times[0] == pytest.approx(original.times[first] - start, abs=1e-3)


def test_all_frames_of_a_clip_are_mirrored():
    audio, frames = augment(AugmentationSettings(flip=1.0))
    np.testing.assert_array_equal(frames.values[:, :, ::-1], make_frames().values)
    np.testing.assert_array_equal(audio.values, make_audio().values)


def test_blur_removes_details_and_keeps_the_size():
    original = make_frames().values.astype(float)
    blurred = augment(AugmentationSettings(blur=(4,)))[1].values.astype(float)
    assert blurred.shape == original.shape
    assert np.abs(np.diff(blurred, axis=2)).mean() < 0.3 * np.abs(np.diff(original, axis=2)).mean()


def test_a_time_mask_covers_the_given_share():
    audio, frames = augment(AugmentationSettings(time_mask=0.2))
    assert (audio.values == 0).mean() == pytest.approx(0.2, abs=0.001)
    assert (frames.values == 0).all(axis=(1, 2, 3)).sum() == 2


def test_equal_seeds_give_equal_media():
    settings = AugmentationSettings(crop=1.0, flip=0.5, snr=(0, 9), blur=(1, 2), time_mask=0.1)
    for one, same in zip(augment(settings, 4), augment(settings, 4), strict=True):
        np.testing.assert_array_equal(one.values, same.values)
    assert not np.array_equal(augment(settings, 4)[0].values, augment(settings, 5)[0].values)


def test_a_crop_beyond_the_end_returns_the_rest():
    assert len(crop(make_audio(), 1.5, 1.0).values) == RATE // 2


def test_a_reader_decodes_like_extraction_and_keeps_the_media(tmp_path):
    clip = make_demo_corpus(tmp_path, n_speakers=1, n_repetitions=1)[0]
    inputs = [Sound(RATE), Frames(fps=4, size=32, crop_size=32)]
    reader = MediaReader(inputs, workers=1)
    try:
        ((_, (media,)),) = reader.map_batches([[clip]], reader.read)
        direct, _ = read(Source.from_clip(clip), inputs)
        for ours, theirs in zip(media, direct, strict=True):
            np.testing.assert_array_equal(ours.values, theirs.values)
        clip.video.unlink()
        assert reader.read(clip) is media
    finally:
        reader.close()
