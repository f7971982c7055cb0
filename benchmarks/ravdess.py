"""Every recipe on RAVDESS: imported features, the five speaker-disjoint folds of the corpus.

``python benchmarks/ravdess.py``                          all recipes, three seeds, both conditions
``python benchmarks/ravdess.py --recipes mer2023-afg-a``  some of them
``python benchmarks/ravdess.py --nested mer2023-afg-a``   settings chosen within each fold

The features are those of a frozen audio network (about 3 steps per second) and the mean action units of each clip; see
../shared/data/README.md. Each clip is predicted by models trained on other speakers, and whatever a run chooses (a
penalty, an epoch) is chosen within its training fold. The intervals are bootstrap intervals over speakers, of the mean
over seeds. ``mean of all`` combines every system in the table with equal weights, good or bad; the fitted combination
is fitted on the clips of the other folds.

The settings of the AFG recipes were chosen as follows. Eighteen variants of structure a (dropout on frames, smoothing,
noise, averaged weights, modality dropout, weight decay, learning rate, epochs) and thirteen of a pooled network like
the attention baseline (width, dropout, mixup, noise, products of streams) were compared by three-fold cross-validation
within the training clips of folds 0 and 2; width and dropout of structure a are those of the best pooled network. Every
clip is in one of these two training sets, so the settings are *not* chosen anew for each fold without its labels, and
the scores of the AFG recipes may be optimistic by what was gained among 31 variants. ``--nested`` shows by how much:
for each fold, width, dropout and smoothing are chosen from a grid of eight by three-fold, speaker-independent
cross-validation within the training clips of that fold.

RAVDESS has no valence labels: recipes leave valence out and say so. An interrupted benchmark resumes.
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
from affuse.posteriors.bootstrap import bootstrap, interval
from affuse.posteriors.cross_fitting import assign_folds, cross_fit
from affuse.posteriors.labels import Labels
from affuse.posteriors.learners import make_learner
from affuse.posteriors.metrics import compute_metrics
from affuse.posteriors.posterior import Posterior
from affuse.posteriors.rules import align, combine_by_rule
from affuse.recipes.recipe import Recipe, recipe_names
from affuse.training.cross_validation import train
from affuse.training.estimator import EmotionClassifier
from affuse.training.run import Run

DATA = Path(os.environ.get("AFFUSE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FITTED = "log-linear"
GRID = (
    ("fusion.hidden=256", "fusion.hidden=512"),
    ("fusion.dropout=0.3", "fusion.dropout=0.6"),
    ("head.loss={smoothing=0.0}", "head.loss={smoothing=0.1}"),
)
TARGETS = {"train": (75.0, 77.0), "speaker": (82.0, 85.0)}
"""Accuracy to reach with the best single system and with the combinations, by condition."""


def suits_ravdess(name: str) -> bool:
    """Return whether a recipe is a single system on cached features that predicts one emotion per clip."""
    recipe = Recipe.read(name)
    reads_features = not (recipe.members or recipe.windows or recipe.encoders)
    return reads_features and recipe.targets.emotion


def print_row(name: str, posteriors: list[Posterior], labels: Labels, combined: Posterior | None) -> float:
    """Print the accuracy of a system: mean over seeds, interval, range, seeds combined; return the mean."""
    found = [bootstrap(posterior, labels) for posterior in posteriors]
    each = [seed.values["accuracy"] for seed in found]
    mean = float(np.mean(each))
    _, low, high = interval(mean, np.mean([seed.resampled["accuracy"] for seed in found], axis=0))
    text = f"{name:<24}{100 * mean:>8.1f}   {100 * low:.1f} to {100 * high:.1f}"
    if combined is not None:
        together = compute_metrics(combined, labels, only=["accuracy"])["accuracy"]
        text += f"   {100 * min(each):.1f} to {100 * max(each):.1f}{100 * together:>12.1f}"
    print(text, flush=True)
    return 100 * mean


def print_table(condition: str, runs: dict[str, Run], manifest: Manifest) -> None:
    """Print the accuracy of every system, and of all of them combined."""
    single_target, combined_target = TARGETS[condition]
    print(f"\nstandardised over {'the training fold' if condition == 'train' else 'each speaker'}")
    print(f"{'recipe':<24}{'accuracy':>8}   {'95 % (speakers)':<14}   {'seeds':<12}   combined")
    best, posteriors = 0.0, []
    for name, run in runs.items():
        posteriors.append(run.out_of_fold.at(manifest.ids))
        labels = Labels.from_manifest(manifest, posteriors[-1].emotions)
        seeds = [posterior.at(manifest.ids) for posterior in run.seed_posteriors]
        best = max(best, print_row(name, seeds, labels, posteriors[-1]))
    print(f"best single system {best:.1f}, target {single_target}")
    if len(posteriors) < 2:
        return
    members = align(posteriors, names=list(runs))
    for title, rule in (("mean of all", "mean"), (f"fitted ({FITTED})", FITTED)):
        found = cross_fit(members, labels, make_learner(rule), fold=assign_folds(labels)).posterior
        reached = print_row(title, [found.at(manifest.ids)], labels, None)
        print(f"  target {combined_target}, {'reached' if reached >= combined_target else 'missed'}")


def nested(name: str, condition: str, manifest: Manifest, store: Path, seeds: int, workers: int) -> None:
    """Print the accuracy of a recipe whose settings are chosen within the training clips of each fold."""
    grid = [[f"streams.standardise={condition}", *choice] for choice in product(*GRID)]
    probabilities = np.full((seeds, len(manifest), len(manifest.emotions)), np.nan)
    rows = {clip.id: i for i, clip in enumerate(manifest)}
    for fold in manifest.folds():
        clips, emotions = list(fold.train), [clip.emotion for clip in fold.train]
        search = GridSearchCV(
            EmotionClassifier(name, store=store),
            {"override": grid},
            cv=GroupKFold(3),
            scoring="accuracy",
            n_jobs=workers,
            refit=False,
        ).fit(clips, emotions, groups=[clip.speaker for clip in clips])
        settings = search.best_params_["override"]
        print(f"fold {fold.name}: {' '.join(settings[1:])}, {100 * search.best_score_:.1f} within", flush=True)
        held_out = [rows[clip.id] for clip in fold.held_out]
        for seed in range(seeds):
            model = EmotionClassifier(name, store=store, override=settings, random_state=seed)
            probabilities[seed, held_out] = model.fit(clips, emotions).predict_proba(list(fold.held_out))
    labels = Labels.from_manifest(manifest, manifest.emotions)
    posteriors = [Posterior(tuple(manifest.ids), labels.emotions, each) for each in probabilities]
    print_row(f"{name}, nested", posteriors, labels, combine_by_rule(posteriors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", help="Names or TOML files of recipes (default: all).")
    parser.add_argument("--without", nargs="+", default=[], help="Names of recipes to leave out.")
    parser.add_argument("--nested", metavar="RECIPE", help="Choose the settings of this recipe within each fold.")
    parser.add_argument(
        "--conditions", nargs="+", default=list(TARGETS), choices=list(TARGETS), help="Standardisation."
    )
    parser.add_argument("--seeds", type=int, default=3, help="Number of seeds (default: 3).")
    parser.add_argument("--workers", type=int, default=2, help="Models trained at the same time (default: 2).")
    parser.add_argument("--out", type=Path, default=Path("runs-ravdess"), help="Folder of runs and features.")
    arguments = parser.parse_args()
    ravdess = DATA / "ravdess"
    store = FeatureStore(arguments.out / "features")
    for file, modality in {"audio_mn04.npz": "audio", "visual_action_units.csv": "visual"}.items():
        path = ravdess / "features" / file
        import_features(path, store, name=path.stem, modality=modality)
    manifest = Manifest.read(ravdess / "manifest.csv")
    start, cpu = time.perf_counter(), time.process_time()
    for condition in arguments.conditions:
        if arguments.nested:
            nested(arguments.nested, condition, manifest, store.path, arguments.seeds, arguments.workers)
            continue
        runs = {}
        for name in arguments.recipes or filter(suits_ravdess, recipe_names()):
            if name in arguments.without:
                continue
            # Heads on pooled features use no random numbers: all seeds give the same model.
            seeds = arguments.seeds if Recipe.read(name).fusion else 1
            override = [f"streams.standardise={condition}", f"training.seeds={seeds}"]
            recipe = Recipe.read(name, override=override)
            path = arguments.out / condition / recipe.name
            runs[recipe.name] = train(recipe, manifest, store, out=path, workers=arguments.workers)
        print_table(condition, runs, manifest)
    used = time.process_time() - cpu
    print(
        f"\n{time.perf_counter() - start:.0f} s wall on {arguments.workers} workers, {used:.0f} CPU s in this process"
    )


if __name__ == "__main__":
    main()
