"""Descriptors without weights equal those of librosa and scikit-image."""

import librosa
import numpy as np
import pytest
import torch

from affuse.errors import EncoderError, MediaError
from affuse.extractors._encoder import Media
from affuse.extractors.hog import Hog, histograms
from affuse.extractors.logmel import LogMel

from ..checkpoints import encoded, voice

MEL = {"sr": 16_000, "n_fft": 400, "hop_length": 160, "n_mels": 80, "pad_mode": "constant"}


def decibels(seconds: float) -> np.ndarray:
    """Return the log-mel spectrum of librosa, shape (n_mels, time)."""
    power = librosa.feature.melspectrogram(y=voice(seconds).values, **MEL)
    return librosa.power_to_db(power, ref=1.0, top_db=None)


def test_log_mel_equals_librosa():
    (found,) = encoded(LogMel(), voice(1.3))
    np.testing.assert_allclose(found.values[0].T, decibels(1.3), atol=1e-3)
    assert found.times[0, 10] == pytest.approx(0.1)


def test_mfcc_and_deltas_equal_librosa():
    static = librosa.feature.mfcc(S=decibels(0.7), n_mfcc=20)
    first = librosa.feature.delta(static, width=5, mode="nearest")
    second = librosa.feature.delta(first, width=5, mode="nearest")
    (found,) = encoded(LogMel(kind="mfcc", deltas=True), voice(0.7))
    expected = np.concatenate([static, first, second])
    np.testing.assert_allclose(found.values[0].T, expected, atol=2e-3)


def test_features_do_not_depend_on_the_batch():
    encoder = LogMel(kind="mfcc", deltas=True)
    (together,) = encoded(encoder, voice(0.5), voice(1.2))
    (alone,) = encoded(encoder, voice(0.5))
    assert together.mask.sum(1).tolist() == [51, 121]
    torch.testing.assert_close(together.values[0, :51], alone.values[0])


def test_hog_equals_scikit_image():
    # The first block that scikit-image 0.26 computes by hog(picture, 9, (8, 8), (2, 2), "L2-Hys").
    block = """
        0.24966 0.24966 0.07045 0.18393 0.11773 0.05162 0.07327 0.12328 0.02519
        0.12094 0.0     0.09262 0.05772 0.24966 0.23873 0.24966 0.24966 0.0
        0.24966 0.04786 0.2195  0.17897 0.24966 0.04675 0.06776 0.08946 0.16365
        0.0     0.0793  0.13738 0.08331 0.24292 0.24966 0.24966 0.24966 0.03839
    """
    y, x = np.mgrid[0:24, 0:16]
    picture = ((x * x * 3 + y * 7 + x * y) % 101) / 100
    found = histograms(torch.from_numpy(picture)[None])
    assert found.shape == (1, 72)
    np.testing.assert_allclose(found[0, :36], [float(number) for number in block.split()], atol=2e-5)


def test_hog_keeps_time_and_dimension():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    (found,) = encoded(Hog(fps=2), Media(pixels, np.array([0.25, 0.75, 1.25]), 1.5))
    assert found.values.shape == (1, 3, Hog().dim)
    assert found.times[0].tolist() == [0.25, 0.75, 1.25]


def test_contradictory_and_unknown_options_are_refused():
    with pytest.raises(EncoderError, match="Give one of them"):
        Hog(fps=2, frames=8)
    with pytest.raises(EncoderError, match="must be positive"):
        Hog(fps=-1)
    with pytest.raises(EncoderError, match="crop=face"):
        Hog(crop="body")
    with pytest.raises(EncoderError, match="kind=mfcc"):
        LogMel(kind="plp")


def test_a_clip_without_samples_or_frames_is_a_media_error():
    with pytest.raises(MediaError, match="too_short"):
        LogMel().prepare(voice(0))
    with pytest.raises(MediaError, match="too_short"):
        Hog().prepare(Media(np.empty((0, 64, 64, 3), np.uint8), np.empty(0), 0))
