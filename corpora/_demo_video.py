"""Media functions of the corpora: writing of generated clips, and the times of the frames of a video.

Nothing is decoded here; extraction decodes media in a separate process.
"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..errors import MediaError
from ._demo_voice import SAMPLING_RATE

FORMATS = "mov,mp4,avi,matroska,webm,flv,mpeg,mpegts"


def write_media(path: Path, frames: Iterable[np.ndarray], sound: np.ndarray, *, fps: int) -> None:
    """Write one MP4 file with H.264 video and AAC audio; its folder is created.

    Parameters
    ----------
    path : Path
    frames : iterable of ndarray of uint8 [shape=(height, width, 3)]
        Frames in RGB with even height and width; consumed one at a time.
    sound : ndarray of float32 [shape=(samples,)]
        Mono audio at `SAMPLING_RATE`, -1 to 1.
    fps : int
        Frames per second.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps)
        # With one thread, the same frames always give the same bytes.
        video.options = {"preset": "veryfast", "crf": "23", "threads": "1"}
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLING_RATE, layout="mono")
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
        samples.sample_rate, samples.pts = SAMPLING_RATE, 0
        samples.time_base = Fraction(1, SAMPLING_RATE)
        container.mux(audio.encode(samples))
        container.mux(audio.encode(None))


def frame_times(path: Path) -> np.ndarray:
    """Return the presentation times of the frames of a video, in seconds from its start, without decoding.

    Videos from the web have no constant rate, so frame i is not at i divided by the mean rate. Only the
    first video stream is read.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        with av.open(path, options=options) as container:
            if not container.streams.video:
                raise MediaError("no_video_stream", "the file holds no picture stream")
            stream = container.streams.video[0]
            start = (container.start_time or 0) / av.time_base
            stamps = [p.pts for p in container.demux(stream) if p.pts is not None and p.size]
            base = float(stream.time_base)
    except (av.FFmpegError, OSError, ValueError):
        raise MediaError("unreadable", "the file cannot be opened as a video") from None
    if not stamps:
        raise MediaError("no_timestamps", "the picture stream carries no times")
    return np.asarray(np.unique(np.array(stamps, dtype=np.int64)) * base - start)
