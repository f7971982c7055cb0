"""Combination, calibration and scoring: how near the optimum, and how long it takes.

``python benchmarks/combine.py optimum``   synthetic members of which the best combination is known
``python benchmarks/combine.py speed``     100,000 clips x 8 emotions x 12 members, 1,000 draws
``python benchmarks/combine.py ravdess``   real posteriors of simple systems on RAVDESS
"""

import argparse
import os
import platform
import resource
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from affuse.posteriors.bootstrap import drawn, interval
from affuse.posteriors.cross_fitting import cross_fit, member_temperatures, rounds
from affuse.posteriors.evaluation import evaluate
from affuse.posteriors.labels import Labels
from affuse.posteriors.learners import LEARNERS, Rule, Weights
from affuse.posteriors.posterior import Posterior, softmax
from affuse.posteriors.rules import Members

EMOTIONS = ("angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised")


def world(
    seed: int, n_clips: int, n_members: int, n_speakers: int = 40, correlation: float = 0.0
) -> tuple[Members, Labels, np.ndarray]:
    """Members that err with a stated correlation given the emotion, at temperatures of their own.

    A member sees the emotion's prototype in noise and answers by Bayes' rule, so that the posterior
    given all members together, the third value, is the optimum. Then it overstates or understates.
    """
    generator = np.random.default_rng(seed)
    n = len(EMOTIONS)
    prior = generator.dirichlet(np.full(n, 5.0))
    emotion = generator.choice(n, n_clips, p=prior)
    strengths = generator.uniform(0.4, 1.2, n_members)
    heats = np.exp(generator.uniform(-1, 0.7, n_members))
    own, common = generator.normal(size=(n_members, n_clips, n)), 0.0
    if correlation:
        common = np.sqrt(correlation) * generator.normal(size=(n_clips, n))
    noise = np.sqrt(1 - correlation) * own + common
    seen = strengths[:, None, None] * np.eye(n)[emotion] + noise
    evidence = strengths[:, None, None] * seen  # log p(seen | emotion) but for a constant
    covariance = (1 - correlation) * np.eye(n_members) + correlation
    together = np.tensordot(np.linalg.solve(covariance, strengths), seen, 1)
    logs = np.log(prior)
    alone = np.stack([softmax((e + logs) / t) for e, t in zip(evidence, heats, strict=True)])
    ids = tuple(f"clip{i}" for i in range(n_clips))
    speakers = tuple(f"s{i % n_speakers}" for i in range(n_clips))
    names = tuple(f"m{m}" for m in range(n_members))
    truth = Labels(ids, speakers, EMOTIONS, emotion)
    return Members(names, ids, EMOTIONS, alone, {}), truth, softmax(together + logs)


def accuracy(probabilities: np.ndarray, truth: Labels) -> float:
    return 100 * float((probabilities.argmax(1) == truth.emotion).mean())


def optimum(n_seeds: int, correlation: float) -> None:
    rules = {"mean": Rule(), "geometric": Rule("geometric"), "fitted mean": Weights(), **LEARNERS}
    del rules["stacking-lightgbm"], rules["stacking"]
    gaps: dict[str, list[float]] = {name: [] for name in rules}
    behind, worse, eces = {name: 0 for name in rules}, 0, []
    for seed in range(n_seeds):
        members, truth, best = world(seed, 5000, 4, correlation=correlation)
        fold = rounds(truth)
        singles = [accuracy(p, truth) for p in members.probabilities]
        top = int(np.argmax(singles))
        for name, learner in rules.items():
            found = cross_fit(members, truth, learner, fold=fold).posterior
            gaps[name].append(accuracy(found.probabilities, truth) - accuracy(best, truth))
            draws = drawn(members.member(top), truth, n_draws=200)["accuracy"]
            low = interval(singles[top] / 100, draws).low
            behind[name] += accuracy(found.probabilities, truth) / 100 < low
        before = evaluate_ece(members.member(0), truth)
        single = Members(("m0",), members.ids, EMOTIONS, members.probabilities[:1], {})
        heat = member_temperatures(single, truth, fold=fold)
        after = cross_fit(single, truth, Rule(), fold=fold, temperatures=heat).posterior
        eces.append((before, evaluate_ece(after, truth)))
        worse += eces[-1][1] > eces[-1][0]
    print(f"{n_seeds} seeds, 5,000 clips, 4 members whose errors correlate by {correlation}, 5 folds")
    print(f"{'rule':<16}{'points from the optimum':>26}{'below best member interval':>30}")
    for name, found in gaps.items():
        print(f"{name:<16}{np.mean(found):>26.2f}{behind[name]:>26} of {n_seeds}")
    before, after = np.array(eces).T
    print(
        f"ECE {before.mean():.4f} before calibration, {after.mean():.4f} after; worse in {worse} "
        f"of {n_seeds} seeds, at most by {max(0, (after - before).max()):.4f}"
    )


def evaluate_ece(posterior: Posterior, truth: Labels) -> float:
    from affuse.posteriors.calibration import reliability

    return reliability(posterior, truth).ece


def speed() -> None:
    from affuse.manifest import Clip, Manifest
    from affuse.posteriors.combine import combine

    members, truth, _ = world(0, 100_000, 12, n_speakers=500)
    facts = zip(truth.ids, truth.speakers, truth.emotion, strict=True)
    manifest = Manifest(Clip(i, speaker=s, emotion=EMOTIONS[e]) for i, s, e in facts)
    posteriors = [members.member(m) for m in range(len(members))]
    wall, cpu = time.perf_counter(), time.process_time()
    found = combine(posteriors, names=members.names, manifest=manifest, calibrate=True)
    combined = time.perf_counter() - wall, time.process_time() - cpu
    evaluation = evaluate(found.posterior, manifest, provenance=found.provenance)
    whole = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"combine, calibrate, leave one out: {combined[0]:.1f} s wall, {combined[1]:.1f} s CPU")
    print(f"with evaluation, 1,000 draws:      {whole[0]:.1f} s wall, {whole[1]:.1f} s CPU, peak {peak:.2f} GiB")
    print(f"accuracy {evaluation.figures['accuracy']}")


def ravdess() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from affuse.manifest import Manifest

    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("AFFUSE_DATA", root.parent / "shared" / "data")) / "ravdess"
    manifest = Manifest.read(folder / "manifest.csv")
    truth = Labels.of(manifest, manifest.emotions)
    streams = ravdess_streams(folder, manifest.ids)
    streams["both"] = np.hstack([streams["audio"], streams["visual"]])
    fold = rounds(truth)
    answers = []
    for name, penalty in (("audio", 0.03), ("visual", 0.3), ("both", 0.03)):
        rows = np.empty((len(truth), len(truth.emotions)))
        for held in np.unique(fold):
            seen = fold != held
            model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000))
            model.fit(streams[name][seen], truth.emotion[seen])
            rows[~seen] = model.predict_proba(streams[name][~seen])
        answers.append(rows)
        print(f"{name:<22}{accuracy(rows, truth):6.1f}")
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
    for chosen, title in (((0, 1), "audio + visual"), ((0, 1, 2), "all three")):
        names = tuple(str(c) for c in chosen)
        members = Members(names, truth.ids, truth.emotions, np.stack([answers[c] for c in chosen]), {})
        for rule, learner in rules.items():
            found = cross_fit(members, truth, learner, fold=fold).posterior
            print(f"{title}, {rule:<22}{accuracy(found.probabilities, truth):6.1f}")


def ravdess_streams(folder: Path, ids: list[str]) -> dict[str, np.ndarray]:
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
    parser.add_argument("what", choices=("optimum", "speed", "ravdess"))
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--correlation", type=float, default=0.0, help="Of the members' errors.")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    {"optimum": lambda: optimum(arguments.seeds, arguments.correlation), "speed": speed, "ravdess": ravdess}[
        arguments.what
    ]()
