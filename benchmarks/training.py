"""How fast recipes train on a corpus of MER 2023's shape, made by program.

``python benchmarks/training.py epoch``    an epoch of every AFG structure, padding, overhead
``python benchmarks/training.py recipe``   the whole recipe mer2023: three structures, five folds

3,373 clips of 2 to 7.1 s, 1024-d audio at 10 a second, 768-d visual at 5 a second, float16. CPU
seconds beside wall-clock seconds; ratios are taken within one run.
"""

import argparse
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from affuse.cache.store import Features, FeatureStore, Row
from affuse.manifest import Clip, Manifest
from affuse.recipes.recipe import Recipe
from affuse.training import loop
from affuse.training.cross_validation import train
from affuse.training.dataset import CachedDataset, choose_streams, gather, padding_waste
from affuse.training.learner import learn

COUNTS = {"neutral": 871, "angry": 822, "happy": 689, "sad": 383, "worried": 462, "surprise": 146}
STREAMS = {"audio": (10, 1024), "visual": (5, 768)}
STRUCTURES = ("mer2023-afg-a", "mer2023-afg-b", "mer2023-afg-c")


def corpus(folder: Path) -> tuple[Manifest, FeatureStore]:
    """Write features that know their emotion a little; 40 speakers."""
    generator = np.random.default_rng(0)
    emotions = generator.permutation(np.repeat(list(COUNTS), list(COUNTS.values())))
    seconds = generator.uniform(2.0, 7.1, len(emotions))
    clips = [
        Clip(f"{i:05d}", speaker=f"s{i % 40}", emotion=str(e), valence=float(generator.normal()))
        for i, e in enumerate(emotions)
    ]
    store = FeatureStore(folder)
    for name, (rate, dim) in STREAMS.items():
        centres = {e: generator.normal(size=dim).astype(np.float32) for e in COUNTS}
        facts = {"name": name, "modality": name, "dim": dim, "dtype": "float16", "rate": rate}
        for shard in range(0, len(clips), 512):
            rows = []
            for clip, s in zip(clips[shard : shard + 512], seconds[shard:], strict=False):
                n = int(s * rate)
                values = generator.standard_normal((n, dim), dtype=np.float32)
                values += 0.1 * centres[str(clip.emotion)]
                times = (np.arange(n) + 0.5) / rate
                rows.append((Row(clip.id, n_frames=n), Features(values, times)))
            store.write(f"{name}-made", f"{shard:05d}", facts, rows)
    return Manifest(clips), FeatureStore(folder)


def cpu() -> float:
    """CPU seconds of this process and its children."""
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def epoch(samples: CachedDataset) -> None:
    """Print what one epoch costs, the better of two; the first imports of torch are not counted."""
    real, spent = loop._step, [0.0]

    def timed(*arguments: object) -> None:
        start = time.perf_counter()
        real(*arguments)  # type: ignore[arg-type]
        spent[0] += time.perf_counter() - start

    loop._step = timed  # type: ignore[assignment]
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist()
    plan = samples.plan(32, order=order, generator=torch.Generator().manual_seed(0))
    waste = padding_waste(samples.batch(rows) for rows in plan)
    print(f"{'recipe':<16}{'CPU s':>8}{'wall s':>8}{'outside step':>14}{'padding':>9}")
    for name in STRUCTURES:
        recipe = Recipe.read(name, override=["training.epochs=1"])
        system, _ = learn(recipe, samples.where(i < 64 for i in range(len(samples))), seed=0)
        figures = []
        for _ in range(2):
            spent[0], start, before = 0.0, time.perf_counter(), cpu()
            loop.fit(system, samples, recipe.training)
            wall, used = time.perf_counter() - start, cpu() - before
            figures.append((used, wall, 1 - spent[0] / wall))
        used, wall, outside = min(figures)
        print(f"{name:<16}{used:>8.2f}{wall:>8.2f}{outside:>14.1%}{waste:>9.1%}")
    loop._step = real


def recipe(manifest: Manifest, store: FeatureStore, folder: Path, workers: int) -> None:
    """Print what the whole recipe costs."""
    start, before = time.perf_counter(), cpu()
    train(Recipe.read("mer2023"), manifest, store, folder, workers=workers, tell=print)
    print(
        f"mer2023, 3 structures x 5 folds: {(time.perf_counter() - start) / 60:.1f} min wall on "
        f"{workers} workers, {(cpu() - before) / 60:.1f} CPU min"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["epoch", "recipe"])
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        manifest, store = corpus(Path(folder) / "features")
        if chosen.what == "recipe":
            recipe(manifest, store, Path(folder) / "run", chosen.workers)
            return
        streams = choose_streams(store)
        epoch(gather(manifest, store, streams, emotions=sorted(COUNTS), dimensions=["valence"]))


if __name__ == "__main__":
    main()
