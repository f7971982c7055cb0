"""Descriptors without weights equal librosa's and scikit-image's."""

import librosa
import numpy as np
import pytest
import torch

from affuse.errors import EncoderError, MediaError
from affuse.extractors._encoder import Media, gathered
from affuse.extractors.hog import Hog, histograms
from affuse.extractors.logmel import LogMel
from affuse.tensors import Stream

SR = 16_000


def voice(seconds: float) -> np.ndarray:
    t = np.arange(int(seconds * SR)) / SR
    noise = np.random.default_rng(3).normal(size=len(t))
    return (0.3 * np.sin(2 * np.pi * 220 * t * (1 + t)) + 0.05 * noise).astype(np.float32)


def encoded(encoder, *media: Media) -> Stream:
    prepared = [encoder.prepare(m) for m in media]
    batch = gathered([p.values for p in prepared], [p.times for p in prepared])
    (stream,) = encoder(batch)
    return stream


def sound(seconds: float) -> Media:
    return Media(voice(seconds), np.empty(0), seconds)


def test_log_mel_is_librosas():
    power = librosa.feature.melspectrogram(
        y=voice(1.3), sr=SR, n_fft=400, hop_length=160, n_mels=80, pad_mode="constant"
    )
    wanted = librosa.power_to_db(power, ref=1.0, top_db=None)
    found = encoded(LogMel(), sound(1.3))
    np.testing.assert_allclose(found.values[0].T, wanted, atol=1e-3)
    assert found.times[0, 10] == pytest.approx(0.1)


def test_mfcc_and_deltas_are_librosas():
    power = librosa.feature.melspectrogram(
        y=voice(0.7), sr=SR, n_fft=400, hop_length=160, n_mels=80, pad_mode="constant"
    )
    static = librosa.feature.mfcc(S=librosa.power_to_db(power, top_db=None), n_mfcc=20)
    first = librosa.feature.delta(static, width=5, mode="nearest")
    second = librosa.feature.delta(first, width=5, mode="nearest")
    found = encoded(LogMel(kind="mfcc", deltas=True), sound(0.7))
    wanted = np.concatenate([static, first, second])
    np.testing.assert_allclose(found.values[0].T, wanted, atol=2e-3)


def test_batch_mates_change_nothing():
    encoder = LogMel(kind="mfcc", deltas=True)
    together = encoded(encoder, sound(0.5), sound(1.2))
    alone = encoded(encoder, sound(0.5))
    assert together.mask.sum(1).tolist() == [51, 121]
    torch.testing.assert_close(together.values[0, :51], alone.values[0])


# Printed by scikit-image 0.26: hog(picture, 9, (8, 8), (2, 2), "L2-Hys"), its first block.
SKIMAGE = [
    0.24966,
    0.24966,
    0.07045,
    0.18393,
    0.11773,
    0.05162,
    0.07327,
    0.12328,
    0.02519,
    0.12094,
    0.0,
    0.09262,
    0.05772,
    0.24966,
    0.23873,
    0.24966,
    0.24966,
    0.0,
    0.24966,
    0.04786,
    0.2195,
    0.17897,
    0.24966,
    0.04675,
    0.06776,
    0.08946,
    0.16365,
    0.0,
    0.0793,
    0.13738,
    0.08331,
    0.24292,
    0.24966,
    0.24966,
    0.24966,
    0.03839,
]


def test_hog_is_scikit_images():
    y, x = np.mgrid[0:24, 0:16]
    picture = ((x * x * 3 + y * 7 + x * y) % 101) / 100
    found = histograms(torch.from_numpy(picture)[None])
    assert found.shape == (1, 72)
    np.testing.assert_allclose(found[0, :36], SKIMAGE, atol=2e-5)


def test_hog_keeps_time_and_dimension():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    found = encoded(Hog(fps=2), Media(pixels, np.array([0.25, 0.75, 1.25]), 1.5))
    assert found.values.shape == (1, 3, Hog().dim)
    assert found.times[0].tolist() == [0.25, 0.75, 1.25]


def test_options_that_contradict_or_do_not_exist():
    with pytest.raises(EncoderError, match="Give one of them"):
        Hog(fps=2, frames=8)
    with pytest.raises(EncoderError, match="crop=face"):
        Hog(crop="body")
    with pytest.raises(EncoderError, match="kind=mfcc"):
        LogMel(kind="plp")


def test_nothing_to_describe_is_the_clips_fault():
    with pytest.raises(MediaError, match="too_short"):
        LogMel().prepare(sound(0))
    with pytest.raises(MediaError, match="too_short"):
        Hog().prepare(Media(np.empty((0, 64, 64, 3), np.uint8), np.empty(0), 0))
