"""Benchmarks of the feature store.

``python benchmarks/store.py epoch``   read 20,000 clips of 10 to 400 frames x 768, float16 (6.3 GB), in random order
``python benchmarks/store.py rerun``   run `affuse extract` again on 10,000 extracted clips
``python benchmarks/store.py mutate``  read 10,000 mutated shards
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from affuse.cache._reader import BLOCK
from affuse.cache.store import Features, FeatureStore, Row
from affuse.engines._engine import Chunk, Engine, ExtractionSettings, PlannedEncoder
from affuse.engines._extraction import extract
from affuse.errors import AffuseError
from affuse.manifest import Clip, Manifest

DIM = 768
SPECIFICATION = {"name": "x", "modality": "audio", "dim": DIM, "dtype": "float16", "rate": 50.0}


def epoch(n: int, folder: Path) -> None:
    """Read every clip once in random order from the store, from a plain memory map and from `.npy` files."""
    random = np.random.default_rng(0)
    lengths = random.integers(10, 401, n)
    noise = random.normal(size=(401, DIM)).astype(np.float16)
    store = FeatureStore(folder / "store")
    (folder / "npy").mkdir()
    offsets = np.cumsum([0, *lengths])
    with (folder / "map").open("wb") as file:
        for start in range(0, n, 16):
            rows = []
            for i in range(start, min(start + 16, n)):
                values = noise[: lengths[i]] + np.float16(i % 7)
                file.write(values.data)
                np.save(folder / "npy" / f"{i}.npy", values)
                times = (np.arange(lengths[i]) + 0.5) / 50
                rows.append((Row(str(i), n_frames=int(lengths[i])), Features(values, times)))
            store.write("x-1", f"{start:06d}", SPECIFICATION, rows)
    order = random.permutation(n)
    mapped = np.memmap(folder / "map", np.float16, "r").reshape(-1, DIM)

    def from_store(opened: FeatureStore, i: int) -> np.ndarray:
        features = opened.read("x-1", str(i))
        assert features is not None
        return np.array(features.values)

    began = time.monotonic()
    opened = FeatureStore(folder / "store")
    opened.tables("x-1")
    gigabytes = offsets[-1] * DIM * 2 / 1e9
    print(f"opening the store and checking every digest: {time.monotonic() - began:.1f} s for {gigabytes:.2f} GB")
    ways: dict[str, Callable[[int], np.ndarray]] = {
        "plain memory map": lambda i: np.array(mapped[offsets[i] : offsets[i + 1]]),
        "affuse": lambda i: from_store(opened, i),
        "one .npy per clip": lambda i: np.load(folder / "npy" / f"{i}.npy"),
    }
    best: dict[str, float] = {}
    for _ in range(3):
        for name, read in ways.items():
            began = time.process_time()
            wall = time.monotonic()
            total = sum(len(read(int(i))) for i in order)
            assert total == offsets[-1]
            best[name] = min(best.get(name, np.inf), time.process_time() - began)
            print(f"{name:17} {time.monotonic() - wall:6.2f} s wall {best[name]:6.2f} s CPU (best)")
    print(f"speed relative to the map   {best['plain memory map'] / best['affuse']:.2f}  (bar: 0.8)")
    print(f"speed relative to .npy      {best['one .npy per clip'] / best['affuse']:.2f}  (bar: 2)")


class ZeroEngine(Engine):
    """An engine that writes zeros instead of features, which fills a store quickly."""

    def run(
        self,
        chunks: Sequence[Chunk],
        encoders: Sequence[PlannedEncoder],
        store: FeatureStore,
        settings: ExtractionSettings,
        *,
        progress: Callable[[str, str], None],
    ) -> int:
        for chunk in chunks:
            for shard in chunk.shards:
                features = Features(np.zeros((8, shard.specification.dim)), np.arange(8.0))
                rows = [(Row(*chunk.rows[i], n_frames=8), features) for i in shard.clips]
                store.write(shard.specification.key, shard.name, shard.specification.as_dict(), rows)
        return len(chunks)


def rerun(n: int, folder: Path) -> None:
    """Time the command on a complete store, including the start of Python."""
    (folder / "clips").mkdir()
    clips = []
    for i in range(n):
        path = folder / "clips" / f"{i:05d}.mp4"
        path.write_bytes(b"%d" % i * 4000)
        clips.append(Clip(path.stem, video=path, emotion="calm", speaker=f"s{i % 40}"))
    Manifest(clips).write(folder / "clips.csv")
    store, requests = FeatureStore(folder / "features"), ["logmel", "hog,fps=5"]
    extract(Manifest(clips), requests, store, engine=ZeroEngine())
    command = [
        sys.executable,
        "-m",
        "affuse",
        "extract",
        str(folder / "clips.csv"),
        "-o",
        str(store.path),
        *(word for r in requests for word in ("-e", r)),
    ]
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        wall = time.monotonic() - began
        print(f"{output.splitlines()[-1]}: {wall:.2f} s wall, {seconds:.2f} s CPU (bar: 2 s)")


def mutate(n: int, folder: Path) -> None:
    """Damage a shard in different ways and read it."""
    random = np.random.default_rng(1)
    store = FeatureStore(folder)
    rows = []
    for i in range(16):
        values = random.normal(size=(20, DIM)).astype(np.float16)
        rows.append((Row(f"clip{i}", "f", n_frames=20), Features(values, np.arange(20.0))))
    store.write("x-1", "0", SPECIFICATION, rows)
    path = folder / "x-1" / "0.h5"
    raw = path.read_bytes()
    found: Counter[str] = Counter()
    for i in range(n):
        data = bytearray(raw)
        kind = i % 4
        if kind == 0:
            data = data[: random.integers(len(data))]
        elif kind == 3:
            a, b = sorted(random.integers(len(data), size=2))
            data = data[:a] + data[b:]
        else:
            reach = BLOCK if kind == 1 else len(data)
            for place in random.integers(reach, size=random.integers(1, 9)):
                data[place] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        opened = FeatureStore(folder)
        try:
            same = all(
                np.array_equal(opened.read("x-1", r.id).values, f.values) and opened.rows("x-1")[r.id] == r
                for r, f in rows
            )
            found["read, unchanged" if same else "SILENTLY WRONG"] += 1
        except AffuseError:
            found["refused"] += 1
    print(dict(found), "(bar: 0 silently wrong, 0 crashes)")


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=["epoch", "rerun", "mutate"], help="Benchmark to run.")
    parser.add_argument("--n", type=int, help="Number of clips or mutations.")
    parser.add_argument("--folder", type=Path, help="Folder for the data.  [default: a temporary folder]")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    work, n = {"epoch": (epoch, 20_000), "rerun": (rerun, 10_000), "mutate": (mutate, 10_000)}[options.which]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        work(options.n or n, Path(folder))


if __name__ == "__main__":
    main()
