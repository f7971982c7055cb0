"""From a decoded picture to the pixels an encoder wants, resized as Pillow does it.

Checkpoints' own processors resize with Pillow (antialiased); so does affuse, from the same full
picture, and the pixels are theirs. FFmpeg's scaler would be a little faster and not the same.
"""

from fractions import Fraction

import numpy as np
from PIL import Image

from .inputs import Frames

RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR, "area": Image.Resampling.BOX}


def upright(rgb: np.ndarray, *, rotation: int, aspect: Fraction | None) -> np.ndarray:
    """Return the picture as a player shows it: turned, with square pixels.

    Parameters
    ----------
    rgb : ndarray [shape=(height, width, 3)]
    rotation : int
        Degrees counterclockwise, a multiple of 90.
    aspect : Fraction or None
        Width of a stored pixel over its height.
    """
    height, width = rgb.shape[:2]
    if aspect and aspect != 1 and Fraction(1, 4) <= aspect <= 4:
        size = (max(1, round(width * aspect)), height)
        rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
    return np.rot90(rgb, rotation // 90 % 4)


def shaped(rgb: np.ndarray, want: Frames) -> np.ndarray:
    """Resize and cut a picture as `want` says.

    Parameters
    ----------
    rgb : ndarray of uint8 [shape=(height, width, 3)]

    Returns
    -------
    ndarray of uint8 [shape=(height, width, 3)]
    """
    height, width = rgb.shape[:2]
    if want.size is not None:
        size = _resized(width, height, want.size, squash=want.squash)
        if size != (width, height):
            picture = Image.fromarray(np.ascontiguousarray(rgb))
            rgb = np.asarray(picture.resize(size, RESAMPLE[want.resample]))
    if want.crop_size is not None:
        rgb = _centre(rgb, want.crop_size)
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


def reduced(rgb: np.ndarray, times: int) -> np.ndarray:
    """Make a picture so many times smaller."""
    if times == 1:
        return rgb
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).reduce(times))


def cut(rgb: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut a box, black where it reaches beyond the picture.

    Parameters
    ----------
    rgb : ndarray [shape=(height, width, 3)]
    box : ndarray [shape=(4,)]
        Left, top, right, bottom in pixels.
    """
    left, top, right, bottom = (round(float(edge)) for edge in box)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    out = np.zeros((bottom - top, right - left, 3), rgb.dtype)
    inside = rgb[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    down, across = max(-top, 0), max(-left, 0)
    out[down : down + inside.shape[0], across : across + inside.shape[1]] = inside
    return out
