"""Writing drawn frames and synthetic sound as real media: H.264 and AAC in an MP4."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_media(
    path: Path,
    frames: Iterable[np.ndarray],
    sound: np.ndarray,
    *,
    fps: int,
    sampling_rate: int = 16_000,
) -> None:
    """Write one MP4.

    Parameters
    ----------
    path : Path
        Its folder is made.
    frames : iterable of ndarray of uint8 [shape=(height, width, 3)]
        RGB, even sides; taken one at a time.
    sound : ndarray of float32 [shape=(samples,)]
        Mono, -1 to 1.
    fps : int
        Frames a second.
    sampling_rate : int
        Hertz.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps)
        # One thread and exact: the same frames give the same bytes.
        video.options = {"preset": "veryfast", "crf": "23", "threads": "1"}
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=sampling_rate, layout="mono")
        audio.bit_rate = 64_000
        for index, pixels in enumerate(frames):
            if index == 0:
                video.height, video.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound, dtype=np.float32)[None], format="fltp", layout="mono"
        )
        samples.sample_rate, samples.pts = sampling_rate, 0
        samples.time_base = Fraction(1, sampling_rate)
        container.mux(audio.encode(samples))
        container.mux(audio.encode(None))
