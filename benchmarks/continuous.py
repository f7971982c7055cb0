"""Emotion over time: joint cross-attention against single streams, and with sound going missing.

``python benchmarks/continuous.py [--folder DIR] [--speakers 16] [--seeds 1]``

Makes the built-in long corpus (two minutes a person; labels 2.4 s late, stretches left out), takes
its two descriptors, trains every system over five folds of people, each fold choosing the delay on
its own training clips, and scores the concordance over the concatenation of all held-out moments.
Then stretches of two seconds of sound are taken away from the held-out clips. The corpus is
synthetic: what is shown is that the machinery works, not how people feel.
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
from click.testing import CliRunner

from affuse.cache.store import Features, FeatureStore
from affuse.cli import main
from affuse.corpora.demo_long import DELAY, make
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
STRETCH = 2.0
SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def cpu() -> float:
    """CPU seconds of this process and of those it started and saw end."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def concordance(posterior: Posterior, manifest: Manifest) -> tuple[float, float]:
    truth = Labels.from_manifest(manifest_over_time(manifest, posterior.ids), ())
    found = metrics.compute_metrics(posterior, truth)
    return found["ccc:valence"], found["ccc:arousal"]


def deafened(run: Run, manifest: Manifest, store: FeatureStore, share: float) -> Posterior:
    """Return the held-out answers of a run whose clips lost a share of their sound."""
    dataset, _ = run.dataset(manifest, store)
    heard = tuple(without_sound(sample, row, share) for row, sample in enumerate(dataset.samples))
    return run.predict_dataset(replace(dataset, samples=heard), manifest)


def without_sound(sample: Sample, row: int, share: float) -> Sample:
    """Take away stretches of the sound, the same for all systems, more of them at larger shares."""
    sound = sample.streams.get("audio")
    if sound is None:
        return sample
    stretch = (sound.times // STRETCH).astype(int)
    kept = np.random.default_rng(row).random(stretch.max() + 1)[stretch] >= share
    less = Features(sound.values[kept], sound.times[kept])
    return sample._replace(streams={**sample.streams, "audio": less})


def delays(run: Run) -> str:
    found = [EmotionModel.load(path).config["delays"] for path in run.folder.models]
    return "; ".join(" ".join(f"{d[k]:.1f}" for d in found) for k in range(2))


def bench(folder: Path, n_speakers: int, n_seeds: int) -> None:
    torch.set_num_threads(1)
    start = cpu()
    made = folder / "manifest.csv"
    manifest = Manifest.read(made) if made.is_file() else make(folder, n_speakers=n_speakers)
    print(f"corpus: {len(manifest)} recordings of 2 minutes, {cpu() - start:.0f} CPU s", flush=True)
    command = [
        "extract",
        str(folder / "manifest.csv"),
        "--out",
        str(folder / "features"),
        "-e",
        "logmel",
        "-e",
        "hog,fps=5",
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    store = FeatureStore(folder / "features")
    runs = {}
    print(
        f"\n{'system':28} {'valence':>8} {'arousal':>8} {'mean':>7} {'CPU s':>7}"
        "  delays found, valence; arousal, a fold each"
    )
    for name, (recipe, changes) in SYSTEMS.items():
        start = cpu()
        settings = [SEARCH, f"training.seeds={n_seeds}", *changes]
        place = folder / "runs" / name.replace(" ", "-").replace("%", "percent")
        runs[name] = train(Recipe.read(recipe, override=settings), manifest, store, out=place)
        spent = cpu() - start
        line(name, concordance(runs[name].out_of_fold, manifest), spent, delays(runs[name]))
    both = combine_by_rule([runs["audio alone"].out_of_fold, runs["visual alone"].out_of_fold])
    line("mean of both alone", concordance(both, manifest), 0.0, f"(planted: {DELAY})")
    shown = [name for name in runs if name != "visual alone"]
    print(f"\n{'mean CCC, sound missing':28} " + " ".join(f"{s:>7.0%}" for s in SHARES))
    for name in shown:
        row = [np.mean(concordance(deafened(runs[name], manifest, store, s), manifest)) for s in SHARES]
        print(f"{name:28} " + " ".join(f"{value:7.3f}" for value in row))


def line(name: str, figures: tuple[float, float], spent: float, note: str) -> None:
    valence, arousal = figures
    print(f"{name:28} {valence:8.3f} {arousal:8.3f} {(valence + arousal) / 2:7.3f} {spent:7.0f}  {note}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="Keep what is made here; default: a passing one.")
    parser.add_argument("--speakers", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    print(
        f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}, 1 thread"
    )
    if given.folder:
        bench(given.folder, given.speakers, given.seeds)
    else:
        with tempfile.TemporaryDirectory() as passing:
            bench(Path(passing), given.speakers, given.seeds)
