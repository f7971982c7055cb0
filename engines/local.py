"""The engine of one machine: threads that each drive decoding children."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from ..cache.store import FeatureStore
from ..extractors._chunk import Stopped, Worker
from ..extractors._loading import load_module, torch_threads
from ..tensors import select_device
from ._engine import Chunk, Engine, ExtractionSettings, PlannedEncoder

PATIENCE = 6.0
"""Seconds that workers have to stop after an interruption."""


class LocalEngine(Engine):
    """Threads on this machine, each with decoding child processes.

    On a CPU, the forward pass of every worker has one thread: as many workers as cores keep all
    cores busy, and the features do not depend on their number.
    """

    def run(
        self,
        chunks: Sequence[Chunk],
        encoders: Sequence[PlannedEncoder],
        store: FeatureStore,
        settings: ExtractionSettings,
        *,
        progress: Callable[[str, str], None],
    ) -> int:
        """Extract all chunks; see `Engine.run`."""
        device = select_device(settings.device)
        modules = [load_module(each.request, device) for each in encoders]  # loaded once, shared by the workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        on_cpu = device.type == "cpu"
        n_workers = min(settings.workers or (cores if on_cpu else 1), len(chunks))
        n_decoders = max(1, (cores if on_cpu else min(8, cores - 1)) // n_workers)
        left, n_shards = deque(chunks), 0
        lock, stop, failures = threading.Lock(), threading.Event(), list[BaseException]()

        def remaining() -> Iterator[Chunk]:
            while True:
                with lock:
                    if not left:
                        return
                    chunk = left.popleft()
                yield chunk

        def report(clip: str, code: str) -> None:
            with lock:
                progress(clip, code)

        def work() -> None:
            nonlocal n_shards
            try:
                with Worker(encoders, store, settings, n_decoders=n_decoders, progress=report, stop=stop) as worker:
                    for result in worker.run(remaining()):
                        with lock:
                            n_shards += result.n_shards
            except Stopped:
                pass
            except BaseException as error:
                failures.append(error)
                stop.set()

        with torch_threads(settings.threads):
            _run_threads([threading.Thread(target=work, daemon=True) for _ in range(n_workers)], stop)
        del modules
        if failures:
            raise failures[0]
        return n_shards


def _run_threads(threads: Sequence[threading.Thread], stop: threading.Event) -> None:
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
    except BaseException:
        stop.set()
        until = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0, until - time.monotonic()))
        raise


plugin = LocalEngine
