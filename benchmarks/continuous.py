"""Emotion over time: joint cross-attention compared with single streams, also with missing audio.

``python benchmarks/continuous.py [--folder DIR] [--speakers 16] [--seeds 1]``

The benchmark generates the built-in long corpus (two minutes per person, annotations delayed by 2.4 s
and with gaps), extracts two descriptors and trains every system with cross-validation over five folds
of people. Each fold chooses the delay on its own training clips. The score is the concordance
correlation coefficient (CCC) over all held-out steps together. Afterwards, intervals of two seconds of
audio are removed from the held-out clips. The corpus is synthetic: the figures show that the pipeline
works, not how well it recognises emotions.
"""

import argparse
import os
import platform
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from cpu_time import cpu

from affuse.cache.store import Features, FeatureStore
from affuse.corpora.demo_long import DELAY, make_long_demo_corpus
from affuse.engines._extraction import extract
from affuse.manifest import Manifest
from affuse.posteriors import metrics
from affuse.posteriors.labels import Labels
from affuse.posteriors.over_time import manifest_over_time
from affuse.posteriors.posterior import Posterior
from affuse.posteriors.rules import combine_by_rule
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train
from affuse.training.dataset import Sample
from affuse.training.model import EmotionModel
from affuse.training.run import Run

SEARCH = "windows.search=[0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0]"
SYSTEMS = {
    "audio alone": ("audio-over-time", []),
    "visual alone": ("visual-over-time", []),
    "jca": ("jca-over-time", []),
    "jca, 20 % of steps dropped": ("jca-over-time", ["training.frame_dropout=0.2"]),
    "dca": ("dca-over-time", []),
}
INTERVAL = 2.0
"""Length of the removed intervals of audio in seconds."""
SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def concordance(posterior: Posterior, manifest: Manifest) -> tuple[float, float]:
    labels = Labels.from_manifest(manifest_over_time(manifest, posterior.ids), ())
    found = metrics.compute_metrics(posterior, labels)
    return found["ccc:valence"], found["ccc:arousal"]


def predict_without_audio(run: Run, manifest: Manifest, store: FeatureStore, share: float) -> Posterior:
    """Return the held-out predictions of a run for clips that lost a share of their audio."""
    dataset, _ = run.dataset(manifest, store)
    remaining = tuple(remove_audio(sample, row, share) for row, sample in enumerate(dataset.samples))
    return run.predict_dataset(replace(dataset, samples=remaining), manifest)


def remove_audio(sample: Sample, row: int, share: float) -> Sample:
    """Remove a share of the intervals of the audio stream, the same ones for all systems."""
    audio = sample.streams.get("audio")
    if audio is None:
        return sample
    interval = (audio.times // INTERVAL).astype(int)
    kept = np.random.default_rng(row).random(interval.max() + 1)[interval] >= share
    reduced = Features(audio.values[kept], audio.times[kept])
    return sample._replace(streams={**sample.streams, "audio": reduced})


def delays(run: Run) -> str:
    found = [EmotionModel.load(path).config["delays"] for path in run.folder.models]
    return "; ".join(" ".join(f"{d[k]:.1f}" for d in found) for k in range(2))


def bench(folder: Path, n_speakers: int, n_seeds: int) -> None:
    torch.set_num_threads(1)
    start = cpu()
    path = folder / "manifest.csv"
    manifest = Manifest.read(path) if path.is_file() else make_long_demo_corpus(folder, n_speakers=n_speakers)
    print(f"corpus: {len(manifest)} recordings of 2 minutes, {cpu() - start:.0f} CPU s", flush=True)
    store = FeatureStore(folder / "features")
    extract(manifest, ["logmel", "hog,fps=5"], store)
    runs = {}
    print(
        f"\n{'system':28} {'valence':>8} {'arousal':>8} {'mean':>7} {'CPU s':>7}"
        "  delays found per fold: valence; arousal"
    )
    for name, (recipe, changes) in SYSTEMS.items():
        start = cpu()
        settings = [SEARCH, f"training.seeds={n_seeds}", *changes]
        place = folder / "runs" / name.replace(" ", "-").replace("%", "percent")
        runs[name] = train(Recipe.read(recipe, override=settings), manifest, store, out=place)
        spent = cpu() - start
        line(name, concordance(runs[name].out_of_fold, manifest), spent, delays(runs[name]))
    both = combine_by_rule([runs["audio alone"].out_of_fold, runs["visual alone"].out_of_fold])
    line("mean of both alone", concordance(both, manifest), 0.0, f"(true delay: {DELAY})")
    shown = [name for name in runs if name != "visual alone"]
    print(f"\n{'mean CCC, audio missing':28} " + " ".join(f"{s:>7.0%}" for s in SHARES))
    for name in shown:
        row = [np.mean(concordance(predict_without_audio(runs[name], manifest, store, s), manifest)) for s in SHARES]
        print(f"{name:28} " + " ".join(f"{value:7.3f}" for value in row))


def line(name: str, ccc: tuple[float, float], spent: float, note: str) -> None:
    valence, arousal = ccc
    print(f"{name:28} {valence:8.3f} {arousal:8.3f} {(valence + arousal) / 2:7.3f} {spent:7.0f}  {note}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="Folder that keeps the results.  [default: a temporary folder]")
    parser.add_argument("--speakers", type=int, default=16, help="Number of people.  [default: 16]")
    parser.add_argument("--seeds", type=int, default=1, help="Number of training seeds.  [default: 1]")
    options = parser.parse_args()
    print(
        f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}, 1 thread"
    )
    if options.folder:
        bench(options.folder, options.speakers, options.seeds)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            bench(Path(temporary), options.speakers, options.seeds)
