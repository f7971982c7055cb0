"""Decoding child process: reads requests and writes media.

A malicious or broken file can end this process and nothing else. Messages are a JSON text followed
by raw arrays; nothing is unpickled. A clip that takes too long ends the process by an alarm, in
whatever library it hangs.
"""

import json
import resource
import signal
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..errors import MediaError
from .inputs import Frames, Media, Sound, Source, inputs_from_json

if TYPE_CHECKING:
    from .faces import FaceFinder

LENGTHS = struct.Struct(">IQ")


def send(pipe: IO[bytes], head: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Write one message; the types and shapes of the arrays are part of its head."""
    shapes = [[array.dtype.str, array.shape] for array in arrays]
    text = json.dumps({**head, "arrays": shapes}).encode()
    pipe.write(LENGTHS.pack(len(text), sum(array.nbytes for array in arrays)) + text)
    for array in arrays:
        pipe.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """Read one message; None if the other process has ended."""
    lengths = pipe.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    n_text, n_bytes = LENGTHS.unpack(lengths)
    raw = bytearray(n_bytes)
    text = pipe.read(n_text)
    if len(text) < n_text or _fill(pipe, memoryview(raw)) < n_bytes:
        return None
    head = json.loads(text)
    arrays, start = [], 0
    for dtype, shape in head.pop("arrays"):
        n = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(raw, dtype, n, start).reshape(shape))
        start += arrays[-1].nbytes
    return head, arrays


def _fill(pipe: IO[bytes], view: memoryview) -> int:
    done = 0
    while done < len(view):
        n = pipe.readinto(view[done:])  # type: ignore[attr-defined]
        if not n:
            break
        done += n
    return done


def media_of(durations: Sequence[float | None], arrays: list[np.ndarray]) -> list[Media | None]:
    """Return the media that the arrays of a message hold."""
    left = iter(arrays)
    return [None if d is None else Media(next(left), next(left), d) for d in durations]


def main() -> None:
    """Decode until the parent closes the pipe; the first message holds the settings."""
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = receive(requests)
    if first is None:
        return
    settings = first[0]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if settings["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (settings["memory"], settings["memory"]))
    inputs = inputs_from_json(settings["inputs"])
    finder = _face_finder(settings["faces"])
    while (message := receive(requests)) is not None:
        try:
            _decode(replies, message[0], inputs, finder, settings["seconds"])
        except MediaError as error:
            send(replies, {"error": [error.code, error.reason]})
        except BrokenPipeError:
            return
        except Exception as error:
            signal.alarm(0)
            send(replies, {"crash": type(error).__name__})
            raise


def _decode(
    replies: IO[bytes],
    request: Mapping[str, Any],
    inputs: Sequence[Sound | Frames],
    finder: "FaceFinder | None",
    seconds: int,
) -> None:
    from .read import stream

    video, audio = (None if p is None else Path(p) for p in (request["video"], request["audio"]))
    source = Source(video, audio, request["start"], request["end"])
    signal.alarm(seconds)
    for part in stream(source, [inputs[i] for i in request["wanted"]], finder=finder):
        signal.alarm(0)
        arrays: list[np.ndarray] = []
        for each in part.media:
            arrays += [] if each is None else [each.values, each.times]
        media = [None if each is None else each.duration for each in part.media]
        send(replies, {"start": part.start, "media": media, "outcomes": part.outcomes}, arrays)
        signal.alarm(seconds)
    signal.alarm(0)


def _face_finder(stored: Mapping[str, str] | None) -> "FaceFinder | None":
    if stored is None:
        return None
    import cv2

    from .faces import FaceOptions

    cv2.setNumThreads(1)
    return FaceOptions.from_dict(stored).finder()


if __name__ == "__main__":
    main()
