"""What augmentation does to media: exactly as much as was asked, the same for the same seed."""

import numpy as np
import pytest

from affuse.corpora.demo import make
from affuse.media.inputs import Frames, Media, Sound
from affuse.recipes.encoder_settings import AugmentationSettings
from affuse.training.media_augmentation import add_noise, augment_media, crop
from affuse.training.prefetch import MediaReader

RATE = 16_000


def sound(seconds=2.0, seed=0):
    wave = 0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return Media(wave.astype(np.float32), np.zeros(0, np.float32), seconds)


def pictures(n=10, fps=5.0):
    frames = np.random.default_rng(1).integers(0, 255, (n, 16, 24, 3), dtype=np.uint8)
    return Media(frames, ((np.arange(n) + 0.5) / fps).astype(np.float32), n / fps)


def drawn(settings, seed=0, **options):
    return distorted([sound(), pictures()], settings, generator=np.random.default_rng(seed), **options)


def decibels(clean, mixed):
    added = mixed.astype(np.float64) - clean
    return 10 * np.log10(np.square(clean, dtype=np.float64).mean() / np.square(added).mean())


def test_nothing_is_asked_and_nothing_done():
    heard, seen = drawn(AugmentationSettings())
    np.testing.assert_array_equal(heard.values, sound().values)
    np.testing.assert_array_equal(seen.values, pictures().values)


@pytest.mark.parametrize("level", [5, 10, 20])
@pytest.mark.parametrize("recorded", [False, True])
def test_noise_stands_at_the_ratio_asked_for(level, recorded):
    pieces = [np.sin(np.arange(n) / 7).astype(np.float32) for n in (700, 9000)] * recorded
    clean = sound().values
    mixed = add_noise(clean, pieces, level, np.random.default_rng(0))
    assert decibels(clean, mixed) == pytest.approx(level, abs=0.01)


def test_noise_as_in_mer_noise_is_drawn_in_whole_decibels():
    settings = AugmentationSettings(snr=(5, 10))
    found = {round(decibels(sound().values, drawn(settings, s)[0].values), 2) for s in range(60)}
    assert found == {5.0, 6.0, 7.0, 8.0, 9.0, 10.0}


def test_a_stretch_is_cut_from_sound_and_pictures_alike():
    heard, seen = drawn(AugmentationSettings(crop=0.8), seed=3)
    assert len(heard.values) == round(0.8 * RATE) and len(seen.values) in (4, 5)
    place = np.flatnonzero(sound().values == heard.values[0])[0] / RATE
    whole = pictures()
    first = int(np.argmax(whole.times >= place))
    np.testing.assert_array_equal(seen.values[0], whole.values[first])
    assert seen.times[0] == pytest.approx(whole.times[first] - place, abs=1e-3)


def test_pictures_are_mirrored_all_or_none():
    heard, seen = drawn(AugmentationSettings(flip=1.0))
    np.testing.assert_array_equal(seen.values[:, :, ::-1], pictures().values)
    np.testing.assert_array_equal(heard.values, sound().values)


def test_blur_takes_away_what_is_fine_and_keeps_the_size():
    sharp = pictures().values.astype(float)
    blurred = drawn(AugmentationSettings(blur=(4,)))[1].values.astype(float)
    assert blurred.shape == sharp.shape
    assert np.abs(np.diff(blurred, axis=2)).mean() < 0.3 * np.abs(np.diff(sharp, axis=2)).mean()


def test_time_masks_silence_the_share_asked_for():
    heard, seen = drawn(AugmentationSettings(time_mask=0.2))
    assert (heard.values == 0).mean() == pytest.approx(0.2, abs=0.001)
    assert (seen.values == 0).all(axis=(1, 2, 3)).sum() == 2


def test_the_seed_decides():
    settings = AugmentationSettings(crop=1.0, flip=0.5, snr=(0, 9), blur=(1, 2), time_mask=0.1)
    for one, same in zip(drawn(settings, 4), drawn(settings, 4), strict=True):
        np.testing.assert_array_equal(one.values, same.values)
    assert not np.array_equal(drawn(settings, 4)[0].values, drawn(settings, 5)[0].values)


def test_cropping_beyond_the_end_takes_what_is_there():
    assert len(crop(sound(), 1.5, 1.0).values) == RATE // 2


def test_a_reader_gives_what_extraction_decodes_and_keeps_it(tmp_path):
    from affuse.media.inputs import Source
    from affuse.media.read import read

    clip = make(tmp_path, n_speakers=1, n_repetitions=1)[0]
    wants = [Sound(RATE), Frames(fps=4, size=32, crop_size=32)]
    reader = MediaReader(wants, workers=1)
    try:
        ((rows, (media,)),) = reader.map_batches([[clip]], reader.read)
        direct, _ = read(Source.from_clip(clip), wants)
        for ours, theirs in zip(media, direct, strict=True):
            np.testing.assert_array_equal(ours.values, theirs.values)
        clip.video.unlink()
        assert reader.read(clip) is media
    finally:
        reader.close()
