"""Decoding beside encoding, in child processes that may die."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import EnvironmentFailure, MediaError
from .inputs import Frames, MediaSegment, Outcome, Sound, Source
from .worker import media_of, packed, receive, send

AHEAD = 4
"""Requests in a child's pipe: enough that it never waits, few enough that the pipe holds them."""
PIPE = 1 << 20
TRIES = {"crash": 2, "killed": 4}


class Limits(NamedTuple):
    """What a decoding child may use.

    Attributes
    ----------
    memory : int
        Bytes of address space.
    seconds : int
        Wall time for a stretch of a clip.
    """

    memory: int = 6 << 30
    seconds: int = 120


LIMITS = Limits()


class Decoder:
    """Children that decode clips in order, ahead of who reads.

    Parameters
    ----------
    wants : sequence of Sound or Frames
    n_children : int
    face_detector : Path or None
        Needed where a want is ``crop="face"``.
    face : str
        Whose face is cut out where there are several: ``largest`` or ``central``.
    limits : Limits
    """

    def __init__(
        self,
        wants: Sequence[Sound | Frames],
        *,
        n_children: int = 1,
        face_detector: Path | None = None,
        face: str = "largest",
        limits: Limits = LIMITS,
    ) -> None:
        self.wants = list(wants)
        faces = None if face_detector is None else {"weights": str(face_detector), "pick": face}
        settings = {"wants": packed(wants), "faces": faces, **limits._asdict()}
        self._children = [_Child(settings) for _ in range(n_children)]
        self._order: deque[_Child] = deque()
        self._turn = 0

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def queue(self, sources: Sequence[Source], wanted: Sequence[int]) -> None:
        """Ask for clips, and for those of the wants; `clip` returns them in this order."""
        for source in sources:
            child = self._children[self._turn % len(self._children)]
            self._turn += 1
            self._order.append(child)
            child.queue(source, wanted)

    def clip(self) -> Iterator[MediaSegment]:
        """Return the stretches of the next clip.

        Raises
        ------
        MediaError
            The clip cannot be decoded, or killed or stalled two children.
        EnvironmentFailure
            Children are killed from outside again and again: there is too little memory.
        """
        return self._order.popleft().clip()

    def close(self) -> None:
        """End the children."""
        for child in self._children:
            child.end()


class _Child:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.waiting: deque[dict[str, Any]] = deque()
        self.n_sent = 0

    def queue(self, source: Source, wanted: Sequence[int]) -> None:
        paths = {
            k: None if p is None else os.path.abspath(p) for k, p in (("video", source.video), ("audio", source.audio))
        }
        window = {"start": source.start, "end": source.end}
        self.waiting.append({**paths, **window, "wanted": list(wanted)})
        self._send()

    def clip(self) -> Iterator[MediaSegment]:
        tries: dict[str, int] = {}
        n_given = 0
        while True:
            n = 0
            for part in self._attempt(tries):
                n += 1
                if n <= n_given:
                    continue  # given before the child died
                n_given = n
                if part.outcomes is not None:
                    self._answered()
                yield part
                if part.outcomes is not None:
                    return

    def _attempt(self, tries: dict[str, int]) -> Iterator[MediaSegment]:
        """Return the parts until the last one, or until the child dies."""
        self._send()
        process = self.process
        assert process is not None and process.stdout is not None
        crash = ""
        while (message := receive(process.stdout)) is not None:
            head, arrays = message
            if "error" in head:
                self._answered()
                raise MediaError(*head["error"])
            if "crash" in head:
                crash = head["crash"]
                continue
            outcomes = head["outcomes"]
            yield MediaSegment(
                head["start"],
                media_of(head["media"], arrays),
                None if outcomes is None else [Outcome(*outcome) for outcome in outcomes],
            )
        self._bury(process, tries, crash)

    def _bury(self, process: "subprocess.Popen[bytes]", tries: dict[str, int], crash: str) -> None:
        status = process.wait()
        self.end()
        kind = "killed" if status == -signal.SIGKILL else "crash"
        tries[kind] = tries.get(kind, 0) + 1
        if tries[kind] < TRIES[kind]:
            return
        if kind == "killed":
            raise EnvironmentFailure(
                "the decoder was killed from outside again and again; is there too little memory? "
                "Run the same command again with fewer --workers, it goes on where it stopped"
            )
        self.waiting.popleft()
        if status == -signal.SIGALRM:
            seconds = self.settings["seconds"]
            raise MediaError("timeout", f"decoding took longer than {seconds} seconds, twice")
        cause = crash or (signal.Signals(-status).name if status < 0 else f"status {status}")
        raise MediaError("decoder_crashed", f"decoding ended in {cause}, twice")

    def _answered(self) -> None:
        self.waiting.popleft()
        self.n_sent -= 1
        self._send()

    def _send(self) -> None:
        if self.process is None:
            self.process, self.n_sent = self._start(), 0
        assert self.process.stdin is not None
        while self.n_sent < min(AHEAD, len(self.waiting)):
            self.n_sent += 1
            try:
                send(self.process.stdin, self.waiting[self.n_sent - 1])
            except BrokenPipeError:
                return  # it died; whoever reads next finds out why

    def _start(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "affuse.media.worker"],
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

    def end(self) -> None:
        if self.process is None:
            return
        process, self.process, self.n_sent = self.process, None, 0
        assert process.stdin is not None and process.stdout is not None
        process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        process.wait()
