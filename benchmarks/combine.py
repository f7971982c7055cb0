"""Combination, calibration and scoring: distance from the optimum, and time.

``python benchmarks/combine.py optimum``   synthetic members whose best combination is known
``python benchmarks/combine.py speed``     100,000 clips x 8 emotions x 12 members, 1,000 resamples
``python benchmarks/combine.py ravdess``   posteriors of simple systems on RAVDESS
"""

import argparse
import os
import platform
import resource
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from affuse.manifest import Clip, Manifest
from affuse.posteriors.bootstrap import bootstrap
from affuse.posteriors.combine import combine
from affuse.posteriors.cross_fitting import assign_folds, cross_fit, member_temperatures
from affuse.posteriors.evaluation import evaluate
from affuse.posteriors.labels import Labels
from affuse.posteriors.learners import LEARNERS, Rule, Weights
from affuse.posteriors.metrics import compute_metrics
from affuse.posteriors.posterior import softmax
from affuse.posteriors.rules import Members
from affuse.posteriors.systems import System

EMOTIONS = ("angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised")


def synthetic(
    seed: int, n_clips: int, n_members: int, n_speakers: int = 40, correlation: float = 0.0
) -> tuple[Members, Labels, np.ndarray]:
    """Return members with correlated errors at various temperatures, labels, and the optimal posterior.

    Each member observes the prototype of the emotion with noise and predicts by Bayes' rule. The optimum is the
    posterior given the observations of all members. Each member is then made over- or underconfident.
    """
    generator = np.random.default_rng(seed)
    n = len(EMOTIONS)
    prior = generator.dirichlet(np.full(n, 5.0))
    emotion = generator.choice(n, n_clips, p=prior)
    strengths = generator.uniform(0.4, 1.2, n_members)
    temperatures = np.exp(generator.uniform(-1, 0.7, n_members))
    own, common = generator.normal(size=(n_members, n_clips, n)), 0.0
    if correlation:
        common = np.sqrt(correlation) * generator.normal(size=(n_clips, n))
    noise = np.sqrt(1 - correlation) * own + common
    observed = strengths[:, None, None] * np.eye(n)[emotion] + noise
    evidence = strengths[:, None, None] * observed  # log p(observed | emotion) up to a constant
    covariance = (1 - correlation) * np.eye(n_members) + correlation
    together = np.tensordot(np.linalg.solve(covariance, strengths), observed, 1)
    logs = np.log(prior)
    alone = np.stack([softmax((e + logs) / t) for e, t in zip(evidence, temperatures, strict=True)])
    ids = tuple(f"clip{i}" for i in range(n_clips))
    speakers = tuple(f"s{i % n_speakers}" for i in range(n_clips))
    names = tuple(f"m{m}" for m in range(n_members))
    labels = Labels(ids, speakers, EMOTIONS, emotion)
    return Members(names, ids, EMOTIONS, alone, {}), labels, softmax(together + logs)


def accuracy(probabilities: np.ndarray, labels: Labels) -> float:
    """Return the accuracy in per cent."""
    return 100 * float((probabilities.argmax(1) == labels.emotion).mean())


def optimum(n_seeds: int, correlation: float) -> None:
    """Print the distance of each rule from the optimum, and the calibration error."""
    rules = {"mean": Rule(), "geometric": Rule("geometric"), "fitted mean": Weights(), **LEARNERS}
    del rules["stacking-lightgbm"], rules["stacking"]
    gaps: dict[str, list[float]] = {name: [] for name in rules}
    behind, worse, errors = {name: 0 for name in rules}, 0, []
    for seed in range(n_seeds):
        members, labels, best = synthetic(seed, 5000, 4, correlation=correlation)
        fold = assign_folds(labels)
        top = int(np.argmax([accuracy(p, labels) for p in members.probabilities]))
        low = bootstrap(members.member(top), labels, n_resamples=200).interval("accuracy").low
        for name, learner in rules.items():
            reached = accuracy(cross_fit(members, labels, learner, fold=fold).posterior.probabilities, labels)
            gaps[name].append(reached - accuracy(best, labels))
            behind[name] += reached / 100 < low
        before = compute_metrics(members.member(0), labels, only=["ece"])["ece"]
        single = Members(("m0",), members.ids, EMOTIONS, members.probabilities[:1], {})
        temperatures = member_temperatures(single, labels, fold=fold)
        after = cross_fit(single, labels, Rule(), fold=fold, temperatures=temperatures).posterior
        errors.append((before, compute_metrics(after, labels, only=["ece"])["ece"]))
        worse += errors[-1][1] > errors[-1][0]
    print(f"{n_seeds} seeds, 5,000 clips, 4 members whose errors correlate by {correlation}, 5 folds")
    print(f"{'rule':<16}{'points from the optimum':>26}{'below interval of best member':>32}")
    for name, found in gaps.items():
        print(f"{name:<16}{np.mean(found):>26.2f}{behind[name]:>26} of {n_seeds}")
    before, after = np.array(errors).T
    print(
        f"ECE {before.mean():.4f} before calibration, {after.mean():.4f} after; worse for {worse} "
        f"of {n_seeds} seeds, at most by {max(0, (after - before).max()):.4f}"
    )


def speed() -> None:
    """Print the time to combine and score twelve members on 100,000 clips."""
    members, labels, _ = synthetic(0, 100_000, 12, n_speakers=500)
    rows = zip(labels.ids, labels.speakers, labels.emotion, strict=True)
    manifest = Manifest(Clip(i, speaker=s, emotion=EMOTIONS[e]) for i, s, e in rows)
    posteriors = [members.member(m) for m in range(len(members))]
    wall, cpu = time.perf_counter(), time.process_time()
    found = combine(posteriors, names=members.names, manifest=manifest, calibrate=True)
    combined = time.perf_counter() - wall, time.process_time() - cpu
    evaluation = evaluate(System("combined", found.posterior, provenance=found.provenance), manifest)
    whole = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"combine, calibrate, leave one out: {combined[0]:.1f} s wall, {combined[1]:.1f} s CPU")
    print(f"with evaluation, 1,000 resamples:  {whole[0]:.1f} s wall, {whole[1]:.1f} s CPU, peak {peak:.2f} GiB")
    print(f"accuracy {evaluation.metrics['accuracy']}")


def ravdess() -> None:
    """Print the accuracy of simple systems on RAVDESS and of their combinations."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("AFFUSE_DATA", root.parent / "shared" / "data")) / "ravdess"
    manifest = Manifest.read(folder / "manifest.csv")
    labels = Labels.from_manifest(manifest, manifest.emotions)
    streams = ravdess_streams(folder, manifest.ids)
    streams["both"] = np.hstack([streams["audio"], streams["visual"]])
    fold = assign_folds(labels)
    predictions = []
    for name, penalty in (("audio", 0.03), ("visual", 0.3), ("both", 0.03)):
        rows = np.empty((len(labels), len(labels.emotions)))
        for held_out in np.unique(fold):
            training = fold != held_out
            model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000))
            model.fit(streams[name][training], labels.emotion[training])
            rows[~training] = model.predict_proba(streams[name][~training])
        predictions.append(rows)
        print(f"{name:<22}{accuracy(rows, labels):6.1f}")
    rules = {
        "mean": Rule(),
        "geometric": Rule("geometric"),
        "entropy": Rule("entropy"),
        "majority": Rule("majority"),
        "median": Rule("median"),
        "fitted mean": Weights(),
        "fitted geometric": Weights("geometric"),
        "by WAF": Weights(by="waf"),
        **LEARNERS,
    }
    for systems, title in (((0, 1), "audio + visual"), ((0, 1, 2), "all three")):
        stacked = np.stack([predictions[s] for s in systems])
        members = Members(tuple(map(str, systems)), labels.ids, labels.emotions, stacked, {})
        for rule, learner in rules.items():
            found = cross_fit(members, labels, learner, fold=fold).posterior
            print(f"{title}, {rule:<22}{accuracy(found.probabilities, labels):6.1f}")


def ravdess_streams(folder: Path, ids: list[str]) -> dict[str, np.ndarray]:
    """Return the mean audio features and the action units of each clip."""
    import csv

    packed = np.load(folder / "features" / "audio_mn04.npz", allow_pickle=False)
    ends = np.cumsum(packed["lengths"])
    starts = ends - packed["lengths"]
    sums = np.add.reduceat(packed["frames"].astype(np.float64), starts)
    audio = dict(zip(packed["ids"], sums / packed["lengths"][:, None], strict=True))
    with (folder / "features" / "visual_action_units.csv").open(newline="") as file:
        visual = {
            row["id"]: [float(v) for c, v in row.items() if c.endswith(("_r", "_c"))] for row in csv.DictReader(file)
        }
    return {"audio": np.stack([audio[i] for i in ids]), "visual": np.array([visual[i] for i in ids])}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=("optimum", "speed", "ravdess"), help="Experiment to run.")
    parser.add_argument("--seeds", type=int, default=100, help="Number of seeds of `optimum` (default: 100).")
    parser.add_argument(
        "--correlation", type=float, default=0.0, help="Correlation of the members' errors (default: 0)."
    )
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    {"optimum": lambda: optimum(arguments.seeds, arguments.correlation), "speed": speed, "ravdess": ravdess}[
        arguments.experiment
    ]()
