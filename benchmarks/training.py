"""Training speed of recipes on a synthetic corpus with the size of MER 2023.

``python benchmarks/training.py epoch``    one epoch of every AFG structure, with padding and overhead
``python benchmarks/training.py recipe``   the whole recipe mer2023: three structures, five folds

The corpus has 3,373 clips of 2 to 7.1 s, with 1024-d audio features at 10 per second and 768-d visual features at 5
per second, in float16. CPU seconds are printed beside wall-clock seconds; ratios are taken within one run.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from cpu_time import cpu

from affuse.cache.store import Features, FeatureStore, Row
from affuse.manifest import Clip, Manifest
from affuse.recipes.recipe import Recipe
from affuse.training import loop
from affuse.training.cross_validation import train
from affuse.training.dataset import CachedDataset, gather, padding_share
from affuse.training.learner import fit_recipe
from affuse.training.streams import choose_streams

COUNTS = {"neutral": 871, "angry": 822, "happy": 689, "sad": 383, "worried": 462, "surprise": 146}
STREAMS = {"audio": (10, 1024), "visual": (5, 768)}
STRUCTURES = ("mer2023-afg-a", "mer2023-afg-b", "mer2023-afg-c")


def corpus(folder: Path) -> tuple[Manifest, FeatureStore]:
    """Write features of 40 speakers that depend weakly on the emotion."""
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


def epoch(dataset: CachedDataset) -> None:
    """Print the time of one epoch, the better of two; the first imports of torch are not counted."""
    real, spent = loop._step, [0.0]

    def timed(*arguments: object) -> None:
        start = time.perf_counter()
        real(*arguments)  # type: ignore[arg-type]
        spent[0] += time.perf_counter() - start

    loop._step = timed  # type: ignore[assignment]
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()
    plan = dataset.plan(32, order=order, generator=torch.Generator().manual_seed(0))
    padding = padding_share(dataset.batch(rows) for rows in plan)
    print(f"{'recipe':<16}{'CPU s':>8}{'wall s':>8}{'outside step':>14}{'padding':>9}")
    for name in STRUCTURES:
        recipe = Recipe.read(name, override=["training.epochs=1"])
        model, _ = fit_recipe(recipe, dataset.where(i < 64 for i in range(len(dataset))), seed=0)
        times = []
        for _ in range(2):
            spent[0], start, before = 0.0, time.perf_counter(), cpu()
            loop.fit(model, dataset, recipe.training)
            wall, used = time.perf_counter() - start, cpu() - before
            times.append((used, wall, 1 - spent[0] / wall))
        used, wall, outside = min(times)
        print(f"{name:<16}{used:>8.2f}{wall:>8.2f}{outside:>14.1%}{padding:>9.1%}")
    loop._step = real


def recipe(manifest: Manifest, store: FeatureStore, folder: Path, workers: int) -> None:
    """Print the time of the whole recipe."""
    start, before = time.perf_counter(), cpu()
    train(Recipe.read("mer2023"), manifest, store, out=folder, workers=workers, progress=print)
    print(
        f"mer2023, 3 structures x 5 folds: {(time.perf_counter() - start) / 60:.1f} min wall on "
        f"{workers} workers, {(cpu() - before) / 60:.1f} CPU min"
    )


def main() -> None:
    """Run the chosen benchmark."""
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
