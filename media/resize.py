"""Resizing and cropping of decoded frames, with the interpolation of Pillow.

The processors of the published checkpoints resize with Pillow (antialiased). affuse does the same
from the same full frame, so that the pixels are equal; the scaler of FFmpeg would be slightly
faster, but its pixels differ.
"""

from fractions import Fraction

import numpy as np
from PIL import Image

from .inputs import Frames

RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR, "area": Image.Resampling.BOX}


def upright(rgb: np.ndarray, *, rotation: int, aspect: Fraction | None) -> np.ndarray:
    """Return a stored frame as a player shows it: rotated, with square pixels.

    The `rotation` is a multiple of 90 degrees, counterclockwise; `aspect` is the width of a stored pixel divided by
    its height.
    """
    height, width = rgb.shape[:2]
    if aspect and aspect != 1 and Fraction(1, 4) <= aspect <= 4:
        size = (max(1, round(width * aspect)), height)
        rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
    return np.rot90(rgb, rotation // 90 % 4)


def shaped(rgb: np.ndarray, frames: Frames) -> np.ndarray:
    """Resize an upright frame of shape (height, width, 3) and cut its centre, as the encoder asks for."""
    height, width = rgb.shape[:2]
    if frames.size is not None:
        size = _resized(width, height, frames.size, squash=frames.squash)
        if size != (width, height):
            picture = Image.fromarray(np.ascontiguousarray(rgb))
            rgb = np.asarray(picture.resize(size, RESAMPLE[frames.resample]))
    if frames.crop_size is not None:
        rgb = _centre(rgb, frames.crop_size)
    return np.ascontiguousarray(rgb)


def _resized(width: int, height: int, size: int, *, squash: bool) -> tuple[int, int]:
    if squash:
        return size, size
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def _centre(rgb: np.ndarray, side: int) -> np.ndarray:
    height, width = rgb.shape[:2]
    if min(height, width) < side:
        down, across = max(0, side - height), max(0, side - width)
        rgb = np.pad(rgb, [(down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0)])
        height, width = rgb.shape[:2]
    top, left = round((height - side) / 2), round((width - side) / 2)
    return rgb[top : top + side, left : left + side]


def reduced(rgb: np.ndarray, factor: int) -> np.ndarray:
    """Reduce the sides of a frame by an integer factor."""
    if factor == 1:
        return rgb
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).reduce(factor))


def cropped(rgb: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut a box (left, top, right, bottom in pixels) out of an upright frame; pixels beyond the frame are black."""
    left, top, right, bottom = (round(float(edge)) for edge in box)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    out = np.zeros((bottom - top, right - left, 3), rgb.dtype)
    inside = rgb[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    down, across = max(-top, 0), max(-left, 0)
    out[down : down + inside.shape[0], across : across + inside.shape[1]] = inside
    return out
