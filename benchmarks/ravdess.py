"""Every recipe on RAVDESS: imported features, the corpus's five speaker-disjoint folds.

``python benchmarks/ravdess.py``                          all recipes, three seeds, both conditions
``python benchmarks/ravdess.py --recipes mer2023-afg-a``  some of them
``python benchmarks/ravdess.py --nested mer2023-afg-a``   settings chosen in each fold

Features of a frozen audio network (about 3 steps a second) and a clip's mean action units; see
../shared/data/README.md. A clip is answered only by models that learnt from other people, and what
a run chooses (a penalty, an epoch) it chooses inside its training fold. Intervals are the
bootstrap's over speakers, of the mean over seeds. ``mean of all`` takes every system in the table
with equal weights, good or bad; the fitted combination is fitted on the other folds' clips.

How the AFG recipes' settings came about: eighteen variants of structure a (dropout on frames,
smoothing, noise, averaged weights, modality dropout, weight decay, learning rate, epochs) and
thirteen of a pooled network like the attention baseline (width, dropout, mixup, noise, products of
streams) were compared by three-fold cross-validation inside the training clips of folds 0 and 2;
structure a's width and dropout are those of the best pooled network. Every clip stands in one of
those two training sets, so the settings are *not* chosen afresh for each fold without its labels:
figures of the AFG recipes may flatter by what was gained among 31 variants. ``--nested`` shows by
how much: for each fold, width, dropout and smoothing come from a grid of eight, by three-fold
cross-validation inside that fold's own training clips, speakers apart.

Valence is not annotated in RAVDESS: recipes leave it out and say so. Interrupted, it goes on.
"""

import argparse
import os
import time
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.model_selection import GridSearchCV, GroupKFold

from affuse.cache.importing import import_features
from affuse.cache.store import FeatureStore
from affuse.manifest import Manifest
from affuse.posteriors import metrics
from affuse.posteriors.bootstrap import resample_metrics, interval
from affuse.posteriors.cross_fitting import cross_fit, assign_folds
from affuse.posteriors.labels import Labels
from affuse.posteriors.learners import make_learner
from affuse.posteriors.posterior import Posterior
from affuse.posteriors.rules import align, combine_by_rule
from affuse.recipes.recipe import Recipe, recipe_names
from affuse.training.cross_validation import train
from affuse.training.estimator import EmotionClassifier
from affuse.training.run import Run

DATA = Path(os.environ.get("AFFUSE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FITTED = "log-linear"
CHOICES = (
    ("fusion.hidden=256", "fusion.hidden=512"),
    ("fusion.dropout=0.3", "fusion.dropout=0.6"),
    ("head.loss={smoothing=0.0}", "head.loss={smoothing=0.1}"),
)
BARS = {"train": (75.0, 77.0), "speaker": (82.0, 85.0)}


def single(name: str) -> bool:
    """Whether a recipe is one system on cached features, for clips with one label each."""
    recipe = Recipe.read(name)
    reads_features = not (recipe.members or recipe.windows or recipe.encoders)
    return reads_features and recipe.targets.emotion


def line(name: str, posteriors: list[Posterior], truth: Labels, combined: Posterior | None) -> float:
    """Print a system's accuracy: mean over seeds, their range, interval, seeds combined."""
    each = [metrics.compute_metrics(p, truth)["accuracy"] for p in posteriors]
    draws = np.mean([resample_metrics(p, truth)["accuracy"] for p in posteriors], axis=0)
    low, high = interval(float(np.mean(each)), draws)[1:]
    text = f"{name:<24}{100 * np.mean(each):>8.1f}   {100 * low:.1f} to {100 * high:.1f}"
    if combined is not None:
        together = metrics.compute_metrics(combined, truth)["accuracy"]
        text += f"   {100 * min(each):.1f} to {100 * max(each):.1f}{100 * together:>12.1f}"
    print(text, flush=True)
    return 100 * float(np.mean(each))


def table(condition: str, runs: dict[str, Run], manifest: Manifest) -> None:
    """Print every system, and all of them combined."""
    best_bar, combined_bar = BARS[condition]
    print(f"\nstandardised over {'the training fold' if condition == 'train' else 'each speaker'}")
    print(f"{'recipe':<24}{'accuracy':>8}   {'95 % (people)':<14}   {'seeds':<12}   combined")
    best, answers = 0.0, []
    for name, run in runs.items():
        answers.append(run.out_of_fold.at(manifest.ids))
        truth = Labels.from_manifest(manifest, answers[-1].emotions)
        seeds = [p.at(manifest.ids) for p in run.seed_posteriors]
        best = max(best, line(name, seeds, truth, answers[-1]))
    print(f"best single {best:.1f}, bar {best_bar}")
    if len(answers) < 2:
        return
    members = align(answers, names=list(runs))
    for said, rule in (("mean of all", "mean"), (f"fitted ({FITTED})", FITTED)):
        found = cross_fit(members, truth, make_learner(rule), fold=assign_folds(truth)).posterior
        reached = line(said, [found.at(manifest.ids)], truth, None)
        print(f"  bar {combined_bar}, {'reached' if reached >= combined_bar else 'missed'}")


def nested(name: str, condition: str, manifest: Manifest, store: Path, seeds: int, workers: int) -> None:
    """Print what a recipe reaches when each fold chooses its settings in its training clips."""
    fixed = [f"streams.standardise={condition}"]
    grid = [[*fixed, *choice] for choice in product(*CHOICES)]
    answers = np.full((seeds, len(manifest), len(manifest.emotions)), np.nan)
    rows = {clip.id: i for i, clip in enumerate(manifest)}
    for fold in manifest.folds():
        clips, labels = list(fold.train), [clip.emotion for clip in fold.train]
        search = GridSearchCV(
            EmotionClassifier(name, store=store),
            {"override": grid},
            cv=GroupKFold(3),
            scoring="accuracy",
            n_jobs=workers,
            refit=False,
        ).fit(clips, labels, groups=[clip.speaker for clip in clips])
        chosen = search.best_params_["override"]
        print(f"fold {fold.name}: {' '.join(chosen[1:])}, {100 * search.best_score_:.1f} inside", flush=True)
        held = [rows[clip.id] for clip in fold.held_out]
        for seed in range(seeds):
            model = EmotionClassifier(name, store=store, override=chosen, random_state=seed)
            answers[seed, held] = model.fit(clips, labels).predict_proba(list(fold.held_out))
    truth = Labels.from_manifest(manifest, manifest.emotions)
    posteriors = [Posterior(tuple(manifest.ids), truth.emotions, each) for each in answers]
    line(f"{name}, nested", posteriors, truth, combine_by_rule(posteriors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", help="Names or TOML files; default: all.")
    parser.add_argument("--without", nargs="+", default=[], help="Names to leave out.")
    parser.add_argument("--nested", metavar="RECIPE", help="Choose its settings in each fold.")
    parser.add_argument("--conditions", nargs="+", default=list(BARS), choices=list(BARS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs-ravdess"))
    asked = parser.parse_args()
    ravdess = DATA / "ravdess"
    store = FeatureStore(asked.out / "features")
    sources = {"audio_mn04.npz": "audio", "visual_action_units.csv": "visual"}
    for file, modality in sources.items():
        path = ravdess / "features" / file
        import_features(path, store, name=path.stem, modality=modality)
    manifest = Manifest.read(ravdess / "manifest.csv")
    start, cpu = time.perf_counter(), time.process_time()
    for condition in asked.conditions:
        if asked.nested:
            nested(asked.nested, condition, manifest, store.path, asked.seeds, asked.workers)
            continue
        runs = {}
        for name in asked.recipes or filter(single, recipe_names()):
            if name in asked.without:
                continue
            # Heads on pooled features draw nothing: one seed is all seeds.
            seeds = asked.seeds if Recipe.read(name).fusion else 1
            override = [f"streams.standardise={condition}", f"training.seeds={seeds}"]
            recipe = Recipe.read(name, override=override)
            path = asked.out / condition / recipe.name
            runs[recipe.name] = train(recipe, manifest, store, out=path, workers=asked.workers)
        table(condition, runs, manifest)
    used = time.process_time() - cpu
    print(f"\n{time.perf_counter() - start:.0f} s wall on {asked.workers} workers, {used:.0f} CPU s in this process")


if __name__ == "__main__":
    main()
