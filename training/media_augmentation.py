"""Augmentation of a clip's media in training, before the encoder prepares it; drawn anew in every epoch.

Noise and blur follow the code of the organisers of MER-NOISE (Lian et al. 2023, arXiv 2304.08981): the
signal-to-noise ratio is a whole number of decibels, with ``rms(noise) = rms(clean) / 10^(SNR / 20)``; frames are
blurred by downsampling and upsampling in an image pyramid.
"""

from collections.abc import Sequence

import numpy as np

from ..media.inputs import Media
from ..recipes.encoder_settings import AugmentationSettings


def augment_media(
    media: Sequence[Media | None],
    settings: AugmentationSettings,
    *,
    noise: Sequence[np.ndarray] = (),
    generator: np.random.Generator,
) -> list[Media | None]:
    """Return the augmented media of one clip.

    Parameters
    ----------
    media : sequence of Media or None
        Audio and frames of one clip. Crop, mirroring and blur are drawn once for all of them.
    settings : AugmentationSettings
        Kinds and strengths of the augmentation.
    noise : sequence of ndarray [shape=(samples,)]
        Recordings of noise at the sampling rate of the clip. Gaussian noise is used if there are none.
    generator : numpy Generator
        Source of all draws.
    """
    duration = max((each.duration for each in media if each is not None), default=0.0)
    start = generator.uniform(0, max(0.0, duration - settings.crop)) if settings.crop else 0.0
    mirrored = generator.random() < settings.flip
    factor = int(generator.choice(settings.blur)) if settings.blur else 1
    found: list[Media | None] = []
    for each in media:
        if each is not None and settings.crop and each.duration > settings.crop:
            each = crop(each, start, settings.crop)
        if each is not None and each.values.ndim > 1:
            each = each._replace(values=_augment_frames(each.values, mirrored, factor))
        elif each is not None and settings.snr:
            low, high = settings.snr
            decibels = low + generator.integers(int(high - low) + 1)
            each = each._replace(values=add_background_noise(each.values, noise, decibels, generator))
        if each is not None and settings.time_mask:
            each = each._replace(values=_mask_time(each.values, settings.time_mask, generator))
        found.append(each)
    return found


def crop(media: Media, start: float, seconds: float) -> Media:
    """Return a segment of a clip, with times that count from the start of the segment, in seconds."""
    if media.values.ndim == 1:
        rate = len(media.values) / media.duration
        first = round(start * rate)
        values = media.values[first : first + round(seconds * rate)]
        return Media(values, media.times, len(values) / rate)
    inside = (media.times >= start) & (media.times < start + seconds)
    return Media(media.values[inside], media.times[inside] - np.float32(start), seconds)


def add_background_noise(
    samples: np.ndarray, recordings: Sequence[np.ndarray], decibels: float, generator: np.random.Generator
) -> np.ndarray:
    """Add noise at a signal-to-noise ratio, and scale the sum down where it would exceed the range -1 to 1.

    Random recordings are concatenated until they are longer than the clip, and a random segment of them is added.
    """
    if recordings:
        pieces = [recordings[int(generator.integers(len(recordings)))]]
        while sum(map(len, pieces)) <= len(samples):
            pieces.append(recordings[int(generator.integers(len(recordings)))])
        joined = np.concatenate(pieces)
        first = generator.integers(len(joined) - len(samples) + 1)
        added = joined[first : first + len(samples)]
    else:
        added = generator.standard_normal(len(samples), dtype=np.float32)
    scale = _rms(samples) / 10 ** (decibels / 20) / max(_rms(added), 1e-9)
    mixed = samples + np.float32(scale) * added
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max(initial=0))), np.float32)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean())) if len(samples) else 0.0


def _augment_frames(frames: np.ndarray, mirrored: bool, factor: int) -> np.ndarray:
    import cv2

    times = factor.bit_length() - 1
    if times and len(frames):
        blurred = list(frames)
        for change in [cv2.pyrDown] * times + [cv2.pyrUp] * times:
            blurred = [change(frame) for frame in blurred]
        height, width = frames.shape[1:3]
        frames = np.stack([cv2.resize(frame, (width, height)) for frame in blurred])
    return np.ascontiguousarray(frames[:, :, ::-1]) if mirrored else frames


def _mask_time(values: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    n = round(len(values) * share)
    first = generator.integers(len(values) - n + 1)
    values = values.copy()
    values[first : first + n] = 0
    return values
