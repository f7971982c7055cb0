"""Media files for the tests of all packages, ordinary and unusual ones.

>>> write_clip(tmp_path / "a.mp4", seconds=2, fps=25, size=(160, 120), sampling_rate=44_100)  # doctest: +SKIP
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TICKS = 48_000


def picture(time: float, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return a moving picture with a bright red top left corner; uint8 (height, width, 3)."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    phase = 2 * np.pi * (x / width + y / height / 2 + time / 2) + seed
    rgb = np.stack([np.sin(phase), np.sin(phase * 1.7 + 1), np.cos(phase * 0.6)], -1) * 100 + 128
    rgb[: height // 4, : width // 4] = (250, 10, 10)
    return rgb.clip(0, 255).astype(np.uint8)


def grey_level(time: float, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return a uniform picture whose grey level rises by 20 per second."""
    del seed
    level = np.uint8(min(255, round(20 + 20 * time)))
    return np.full((size[1], size[0], 3), level, np.uint8)


def tone(seconds: float, sampling_rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Return a swelling tone with a little noise; float32 (channels, samples) in -1..1."""
    t = np.arange(round(seconds * sampling_rate)) / sampling_rate
    swell = 0.3 + 0.2 * np.sin(2 * np.pi * 0.7 * t + seed)
    wave = swell * np.sin(2 * np.pi * (180 + 20 * seed % 200) * t)
    noise = np.random.default_rng(seed).normal(scale=0.02, size=(channels, len(t)))
    return (wave + noise).astype(np.float32)


def write_clip(
    path: Path,
    *,
    seconds: float = 1.0,
    fps: float = 25,
    size: tuple[int, int] = (160, 120),
    sampling_rate: int = 44_100,
    layout: str = "stereo",
    video: bool = True,
    audio: bool = True,
    sound: np.ndarray | None = None,
    draw=picture,  # noqa: ANN001
    times: Sequence[float] | None = None,
    video_start: float = 0.0,
    audio_start: float = 0.0,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """Write one clip; the suffix of the file chooses the container.

    Parameters
    ----------
    sound : ndarray or None [shape=(channels, samples)]
        Samples; None writes a tone.
    draw : callable
        Function of ``(seconds, size, seed)`` that returns the picture at a time.
    times : sequence of float or None
        Times of the frames (variable frame rate); None writes one every 1/fps seconds.
    video_start, audio_start : float
        Begin of each stream in seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        vision = hearing = None
        if video:
            vision = file.add_stream(video_codec, rate=Fraction(fps).limit_denominator(1001))
            vision.width, vision.height, vision.pix_fmt = *size, pixels
            vision.codec_context.time_base = Fraction(1, TICKS)
            vision.codec_context.thread_count = 1
            vision.options = (
                {"preset": "ultrafast", "crf": "18"} | (options or {}) if video_codec == "libx264" else (options or {})
            )
        if audio:
            hearing = file.add_stream(audio_codec, rate=sampling_rate, layout=layout)
        if vision is not None:
            for time in times if times is not None else np.arange(round(seconds * fps)) / fps:
                frame = av.VideoFrame.from_ndarray(draw(float(time), size, seed), format="rgb24")
                frame.pts = round((time + video_start) * TICKS)
                frame.time_base = Fraction(1, TICKS)
                file.mux(vision.encode(frame))
            file.mux(vision.encode())
        if hearing is not None:
            channels = len(av.AudioLayout(layout).channels)
            samples = sound if sound is not None else tone(seconds, sampling_rate, channels, seed)
            _write_sound(file, hearing, samples, layout, sampling_rate, audio_start)
    return path


def _write_sound(file, stream, samples, layout, sampling_rate, start) -> None:  # noqa: ANN001
    shape = av.AudioResampler(
        stream.codec_context.format, layout, sampling_rate, frame_size=stream.codec_context.frame_size or 1024
    )
    packed = np.ascontiguousarray(samples.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate, frame.pts = sampling_rate, round(start * sampling_rate)
    frame.time_base = Fraction(1, sampling_rate)
    for piece in [*shape.resample(frame), *shape.resample(None)]:
        file.mux(stream.encode(piece))
    file.mux(stream.encode())


def garbled(raw: bytes, seed: int) -> bytes:
    """Return the bytes of a file with random damage: truncated, flipped, spliced, or an edited header."""
    random = np.random.default_rng(seed)
    data = bytearray(raw)
    kind = random.integers(4)
    if kind == 0:
        return bytes(data[: random.integers(len(data))])
    if kind == 1:
        for place in random.integers(len(data), size=random.integers(1, 60)):
            data[place] ^= 1 << int(random.integers(8))
        return bytes(data)
    if kind == 2:
        a, b = sorted(random.integers(len(data), size=2))
        return bytes(data[:a] + data[b:] if random.integers(2) else data[:b] + data[a:])
    for place in random.integers(min(len(data), 600), size=random.integers(1, 12)):
        data[place] = int(random.integers(256))
    return bytes(data)
