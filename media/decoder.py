"""Decoding in child processes, which run beside the encoders and may crash without harm."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..errors import EnvironmentFailure, MediaError
from .faces import FaceOptions
from .inputs import Frames, MediaSegment, Outcome, Sound, Source, inputs_as_json
from .worker import media_of, receive, send

AHEAD = 4
"""Requests in the pipe of a child: it never waits for the next one, and the pipe never fills up."""
PIPE = 1 << 20
TRIES = {"crash": 2, "killed": 4}


class Limits(NamedTuple):
    """Resources that a decoding child may use.

    Attributes
    ----------
    memory : int
        Address space in bytes; 0 sets no limit.
    seconds : int
        Wall time for one segment of a clip.
    """

    memory: int = 6 << 30
    seconds: int = 120


LIMITS = Limits()


class Decoder:
    """Child processes that decode clips in order, ahead of the reader.

    Parameters
    ----------
    inputs : sequence of Sound or Frames
        Inputs that clips may be decoded to.
    n_children : int
        Number of processes.
    faces : FaceOptions or None
        Options of the face tracker, required for ``crop="face"``.
    limits : Limits
        Resources of each process.
    """

    def __init__(
        self,
        inputs: Sequence[Sound | Frames],
        *,
        n_children: int = 1,
        faces: FaceOptions | None = None,
        limits: Limits = LIMITS,
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
        """Start decoding some clips; `clip` returns them in this order.

        Parameters
        ----------
        sources : sequence of Source
            Locations of the clips.
        wanted : sequence of int
            Positions in `inputs` of the inputs to decode.
        """
        for source in sources:
            child = self._children[self._turn % len(self._children)]
            self._turn += 1
            self._order.append(child)
            child.queue(source, wanted)

    def clip(self) -> Iterator[MediaSegment]:
        """Yield the segments of the next clip.

        Raises
        ------
        MediaError
            The clip cannot be decoded, or crashed or stalled two children.
        EnvironmentFailure
            Children are killed from outside repeatedly, which means that memory is short.
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
            head, arrays = message
            if "error" in head:
                self._finish()
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
