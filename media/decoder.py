"""Decoding in child processes, which run beside the encoders and may crash without harm.

`Decoder` starts the children and reads from them. A child runs `main`, which reads requests from its
standard input and writes decoded media to its standard output.
"""

import contextlib
import fcntl
import json
import os
import resource
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ..errors import EnvironmentFailure, MediaError
from .faces import FaceFinder, FaceOptions
from .inputs import Frames, Media, MediaSegment, Outcome, Sound, Source, inputs_as_json, inputs_from_json

AHEAD = 4
"""Requests in the pipe of a child: it never waits for the next one, and the pipe never fills up."""
PIPE = 1 << 20
TRIES = {"crash": 2, "killed": 4}


class Limits(NamedTuple):
    """Address space in bytes that a decoding child may use (0: any), and wall seconds for one segment of a clip."""

    memory: int = 6 << 30
    seconds: int = 120


class Decoder:
    """Child processes that decode clips to some of the inputs, in order and ahead of the reader.

    ``crop="face"`` requires the options `faces`. The limits hold for each process.
    """

    def __init__(
        self,
        inputs: Sequence[Sound | Frames],
        *,
        n_children: int = 1,
        faces: FaceOptions | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self.inputs = list(inputs)
        settings = {
            "inputs": inputs_as_json(inputs),
            "faces": None if faces is None else faces.as_dict(),
            **limits._asdict(),
        }
        self._children = [_Child(settings) for _ in range(n_children)]
        self._order: deque[_Child] = deque()
        self._turn = 0

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def queue(self, sources: Sequence[Source], wanted: Sequence[int]) -> None:
        """Start decoding some clips to the inputs at the positions `wanted`; `clip` returns them in this order."""
        for source in sources:
            child = self._children[self._turn % len(self._children)]
            self._turn += 1
            self._order.append(child)
            child.queue(source, wanted)

    def clip(self) -> Iterator[MediaSegment]:
        """Yield the segments of the next clip.

        A clip that cannot be decoded, or that crashes or stalls two children, raises `MediaError`. Children that are
        killed from outside repeatedly raise `EnvironmentFailure`.
        """
        return self._order.popleft().clip()

    def close(self) -> None:
        """End the child processes."""
        for child in self._children:
            child.close()


class _Pending(NamedTuple):
    """A clip that a child has not finished, and the temporary copies of its open files."""

    request: dict[str, Any]
    copies: contextlib.ExitStack


class _Child:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.pending: deque[_Pending] = deque()
        self.n_sent = 0

    def queue(self, source: Source, wanted: Sequence[int]) -> None:
        copies = contextlib.ExitStack()
        there = copies.enter_context(source.on_disk())
        video, audio = (None if p is None else os.path.abspath(str(p)) for p in (there.video, there.audio))
        request = {"video": video, "audio": audio, "start": source.start, "end": source.end, "wanted": list(wanted)}
        self.pending.append(_Pending(request, copies))
        self._send()

    def clip(self) -> Iterator[MediaSegment]:
        tries: dict[str, int] = {}
        n_given = 0
        while True:
            for n, part in enumerate(self._attempt(tries), start=1):
                if n <= n_given:
                    continue  # was given before the child died
                n_given = n
                if part.outcomes is not None:
                    self._finish()
                yield part
                if part.outcomes is not None:
                    return

    def _attempt(self, tries: dict[str, int]) -> Iterator[MediaSegment]:
        """Yield segments up to the last one, or until the child dies."""
        self._send()
        process = self.process
        assert process is not None and process.stdout is not None
        crash = ""
        while (message := receive(process.stdout)) is not None:
            head, arrays = message[0], iter(message[1])
            if "error" in head:
                self._finish()
                raise MediaError(*head["error"])
            if "crash" in head:
                crash = head["crash"]
                continue
            outcomes = head["outcomes"]
            yield MediaSegment(
                head["start"],
                [None if seconds is None else Media(next(arrays), next(arrays), seconds) for seconds in head["media"]],
                None if outcomes is None else [Outcome(*outcome) for outcome in outcomes],
            )
        self._count_death(process, tries, crash)

    def _count_death(self, process: "subprocess.Popen[bytes]", tries: dict[str, int], crash: str) -> None:
        status = process.wait()
        self._end()
        kind = "killed" if status == -signal.SIGKILL else "crash"
        tries[kind] = tries.get(kind, 0) + 1
        if tries[kind] < TRIES[kind]:
            return
        if kind == "killed":
            raise EnvironmentFailure(
                "The decoder was killed from outside several times, probably because memory is short. "
                "Run the same command again with fewer --workers; it resumes where it stopped."
            )
        self.pending.popleft().copies.close()
        if status == -signal.SIGALRM:
            seconds = self.settings["seconds"]
            raise MediaError("timeout", f"decoding took longer than {seconds} seconds, twice")
        cause = crash or (signal.Signals(-status).name if status < 0 else f"status {status}")
        raise MediaError("decoder_crashed", f"decoding ended in {cause}, twice")

    def _finish(self) -> None:
        self.pending.popleft().copies.close()
        self.n_sent -= 1
        self._send()

    def _send(self) -> None:
        if self.process is None:
            self.process, self.n_sent = self._start(), 0
        assert self.process.stdin is not None
        while self.n_sent < min(AHEAD, len(self.pending)):
            self.n_sent += 1
            try:
                send(self.process.stdin, self.pending[self.n_sent - 1].request)
            except BrokenPipeError:
                return  # the next read finds out why the child died

    def _start(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "affuse.media.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE)
        with contextlib.suppress(BrokenPipeError):
            send(process.stdin, self.settings)
        return process

    def close(self) -> None:
        self._end()
        while self.pending:
            self.pending.popleft().copies.close()

    def _end(self) -> None:
        if self.process is None:
            return
        process, self.process, self.n_sent = self.process, None, 0
        assert process.stdin is not None and process.stdout is not None
        process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        process.wait()


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
    if len(text) < n_text or pipe.readinto(raw) < n_bytes:  # type: ignore[attr-defined]
        return None
    head = json.loads(text)
    arrays, start = [], 0
    for dtype, shape in head.pop("arrays"):
        n = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(raw, dtype, n, start).reshape(shape))
        start += arrays[-1].nbytes
    return head, arrays


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
    finder: FaceFinder | None,
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


def _face_finder(stored: Mapping[str, str] | None) -> FaceFinder | None:
    if stored is None:
        return None
    import cv2

    cv2.setNumThreads(1)
    return FaceOptions.from_dict(stored).finder()


if __name__ == "__main__":
    main()
