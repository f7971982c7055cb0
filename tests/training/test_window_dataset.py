"""Dimensions over time: windows, delays, and answers put back at their moments."""

import subprocess
import sys
from pathlib import Path

import audmetric
import numpy as np
import pytest
import torch

from affuse.annotations import Track
from affuse.cache.store import Features, FeatureStore, Row
from affuse.errors import PosteriorMismatch, RecipeError
from affuse.fusion._fusion import Fusion
from affuse.fusion.jca import JCA
from affuse.heads.joint import Joint
from affuse.manifest import Clip, Manifest
from affuse.posteriors import metrics
from affuse.posteriors.evaluation import evaluate
from affuse.posteriors.labels import Labels
from affuse.posteriors.over_time import moments, parted, put_back
from affuse.recipes.recipe import Recipe, TrainingSettings
from affuse.recipes.window_settings import WindowSettings
from affuse.tensors import Fused, Stream, Width
from affuse.training.cross_validation import train
from affuse.training.dataset import choose_streams, gather
from affuse.training.delay import find_delays
from affuse.training.loop import fit, initialise
from affuse.training.model import EmotionModel, InputNorm
from affuse.training.summary import results
from affuse.training.validation import truth_of
from affuse.training.window_dataset import WindowDataset, pooled, windowed, within

torch.set_num_threads(1)
DIMENSIONS = ("valence", "arousal")


class Steps(Fusion):
    """Every step's streams side by side: the least that keeps time."""

    def __init__(self, dims: dict[str, int]) -> None:
        super().__init__(dims)
        self.width = Width(sum(dims.values()), {})

    def forward(self, streams: dict[str, Stream]) -> Fused:
        values = torch.cat([streams[name].values for name in self.dims], dim=2)
        mask = torch.stack([s.mask for s in streams.values()]).any(dim=0)
        return Fused(values, mask, {}, {})


def wander(n: int, generator: np.random.Generator, width: int = 60) -> np.ndarray:
    kernel = np.hanning(2 * width + 1)
    raw = np.convolve(generator.normal(size=n + 2 * width), kernel, mode="valid")
    return raw / (2 * raw.std())


def corpus(
    folder: Path,
    *,
    delay: float = 0.0,
    n_clips: int = 4,
    seconds: float = 60.0,
    rate: float = 25.0,
    label_rate: float = 30.0,
) -> tuple[Manifest, FeatureStore]:
    """Clips whose features at t hold the state at t, and whose labels hold it at t - delay."""
    generator = np.random.default_rng(0)
    fine = np.arange(0, seconds + 1, 0.01)
    clips, rows = [], {"audio": [], "visual": []}
    for i in range(n_clips):
        state = np.stack([wander(len(fine), generator, 300) for _ in DIMENSIONS], axis=1)
        state = np.clip(state, -1, 1)
        for name, column in (("audio", 1), ("visual", 0)):
            step = rate if name == "audio" else rate / 4
            times = (np.arange(int(seconds * step)) + 0.5) / step
            values = np.interp(times, fine, state[:, column])[:, None] * [[1.0, -2.0, 0.5]]
            rows[name].append((Row(f"c{i}", n_frames=len(times)), Features(values, times)))
        moments = (np.arange(int(seconds * label_rate)) + 0.5) / label_rate
        labels = np.stack([np.interp(moments - delay, fine, c) for c in state.T], axis=1)
        labels[moments < delay] = np.nan
        labels[300:360] = np.nan
        path = folder / f"c{i}.csv"
        Track(moments, labels, DIMENSIONS).write(path)
        clips.append(Clip(id=f"c{i}", speaker=f"s{i}", labels=path))
    store = FeatureStore(folder / "features")
    for name, found in rows.items():
        facts = {"name": name, "modality": name, "dim": 3, "dtype": "float32"}
        store.write(name, "0", facts, found)
    return Manifest(clips), store


def windows(manifest: Manifest, store: FeatureStore, **settings: object) -> WindowDataset:
    streams = choose_streams(store)
    samples = gather(manifest, store, streams, emotions=(), dimensions=DIMENSIONS)
    return windowed(samples, manifest, WindowSettings(**settings))  # type: ignore[arg-type]


def test_a_stretch_takes_the_mean_of_its_frames_and_a_gap_is_masked() -> None:
    times = np.array([0.25, 0.75, 1.25, 1.75, 5.25])
    features = Features(np.arange(5.0)[:, None], times)
    values, there = pooled(features, np.arange(7.0), spacing=0.5)
    assert there.tolist() == [True, True, False, False, False, True]
    np.testing.assert_allclose(values[:, 0], [0.5, 2.5, 0, 0, 0, 4])
    fast, there = pooled(features, np.array([0.0, 0.1, 0.2, 0.3]), spacing=0.5)
    assert there.all() and (fast == 0).all()  # all within the first frame
    before, there = pooled(features, np.array([-2.0, -1.0, 0.0, 1.0]), spacing=0.5)
    assert there.tolist() == [False, False, True]


def test_labels_are_the_last_or_the_mean_and_nan_is_never_one() -> None:
    times, values = np.array([0.2, 0.5, 1.0, 1.5]), np.array([1.0, np.nan, 3.0, np.nan])
    edges = np.array([0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(within(times, values, edges, "last"), [3, np.nan, np.nan])
    np.testing.assert_allclose(within(times, values, edges, "mean"), [2, np.nan, np.nan])


def test_every_moment_ends_exactly_one_sub_sequence(tmp_path: Path) -> None:
    """The papers' sliding: 32 windows a frame apart, then a jump."""
    found = windows(*corpus(tmp_path, n_clips=1, seconds=40.0), length=4, seconds=0.8, stride=0.1)
    ends = found.places[:, 1:] + 0.8 * np.arange(1, 5)
    inside = np.sort(ends[ends <= 40.0 + 1e-9])
    np.testing.assert_allclose(inside, 0.1 * np.arange(1, 401), atol=1e-6)


def test_features_and_labels_meet_at_the_same_moment(tmp_path: Path) -> None:
    """Alignment is exact: what was seen is what was annotated `delay` later."""
    found = windows(
        *corpus(tmp_path, delay=2.0), length=8, seconds=0.4, stride=0.2, label="mean", delay=(2.0,)
    ).labelled()
    batch = found.batch(range(len(found)))
    labels = batch.targets.dimensions.numpy()
    for name, column in (("visual", 0), ("audio", 1)):
        stream = batch.streams[name]
        known = np.isfinite(labels[:, :, column]) & stream.mask.numpy()
        error = np.abs(stream.values[:, :, 0].numpy() - labels[:, :, column])[known]
        assert error.max() < 0.08 and known.mean() > 0.8
    off = windows(*corpus(tmp_path / "b", delay=2.0), length=8, seconds=0.4, stride=0.2)
    wrong = off.labelled().batch(range(20))
    gap = wrong.streams["audio"].values[:, :, 0].numpy() - wrong.targets.dimensions[:, :, 1].numpy()
    assert np.nanmean(np.abs(gap)) > 0.2


@pytest.mark.parametrize("delay", [0.0, 1.2, 3.6])
def test_the_search_finds_the_planted_delay(tmp_path: Path, delay: float) -> None:
    candidates = [round(0.4 * i, 1) for i in range(13)]
    found = windows(*corpus(tmp_path, delay=delay), length=8, seconds=0.8, stride=0.8)
    assert find_delays(found.labelled(), candidates) == (delay, delay)


def trained(found: WindowDataset) -> EmotionModel:
    torch.manual_seed(0)
    fusion = Steps({"audio": 3, "visual": 3})
    head = Joint(fusion.width, (), DIMENSIONS, loss={"dimension_loss": "ccc"})
    model = EmotionModel({n: InputNorm((3,)) for n in fusion.dims}, fusion, head)
    model.config["delays"] = list(found.delays)
    initialise(model, found.labelled(), standardised=True)
    fit(model, found.labelled(), TrainingSettings(epochs=6, batch=16, learning_rate=0.05))
    return model


def test_answers_come_back_at_the_annotators_moments(tmp_path: Path) -> None:
    manifest, store = corpus(tmp_path, delay=2.0)
    found = windows(manifest, store, length=8, seconds=0.4, stride=0.2, delay=(2.0,))
    model = trained(found)
    posterior = model.posterior(found)
    truth = truth_of(found)
    assert posterior.ids == truth.ids and len(posterior) == 4 * 1800
    figures = metrics.figures(posterior, truth)
    for name in DIMENSIONS:
        assert figures[f"ccc:{name}"] > 0.97
        known = np.isfinite(truth.dimensions[name])
        expected = audmetric.concordance_cc(truth.dimensions[name][known], posterior.dimensions[name][known])
        assert figures[f"ccc:{name}"] == pytest.approx(expected, abs=1e-9)
    # Without its delay the same model answers two seconds early.
    model.config["delays"] = [0.0, 0.0]
    early = metrics.figures(model.posterior(found), truth)
    assert early["ccc:valence"] < figures["ccc:valence"] - 0.2
    again = Labels.of(moments(manifest, posterior.ids), ())
    np.testing.assert_allclose(again.dimensions["arousal"], truth.dimensions["arousal"], atol=1e-5)


def test_a_clip_without_one_modality_or_without_labels_is_answered(tmp_path: Path) -> None:
    manifest, store = corpus(tmp_path)
    found = windows(manifest, store, length=8, seconds=0.8, stride=0.4)
    model = trained(found)
    bare = Manifest([Clip(id="c0")])
    plain = windows(bare, store, length=8, seconds=0.8, stride=0.4)
    deaf = WindowDataset(
        tuple(s._replace(streams={**s.streams, "audio": None}) for s in plain.samples),
        plain.speakers,
        plain.shapes,
        (),
        DIMENSIONS,
        plain.tracks,
        plain.settings,
        plain.delays,
    )
    for one in (plain, deaf):
        posterior = model.posterior(one)
        assert np.isfinite(posterior.dimensions["valence"]).all()
        assert len(posterior) == 151 and set(parted(posterior.ids)) == {"c0"}


def test_answers_are_put_back_clipped_and_smoothed() -> None:
    ends = np.array([[2.0], [1.0], [3.0]])
    answers = np.array([[4.0], [0.0], [0.0]])
    times = np.array([0.5, 1.5, 2.0, 9.0])
    plain = put_back(ends, answers, times)
    np.testing.assert_allclose(plain[:, 0], [0, 2, 4, 0])
    bound = put_back(ends, answers, times, bounds=(-1, 1), average=(1.0,))
    np.testing.assert_allclose(bound[:, 0], [0, 1, 1, 0])


def test_a_recipe_with_windows_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "[targets]\nemotion = false\ndimensions = ['valence', 'arousal']\n"
        "[fusion]\nname = 'concat'\n[head]\nname = 'joint'\n"
        "[windows]\nlength = 8\nseconds = 0.64\ndelay = [2.32, 2.72]\n"
    )
    recipe = Recipe.read(path)
    assert recipe.windows and recipe.windows.delay == (2.32, 2.72)
    recipe.write(tmp_path / "again.toml")
    assert Recipe.read(tmp_path / "again.toml").windows == recipe.windows


def test_two_hours_at_thirty_hertz_train_within_a_gibibyte(tmp_path: Path) -> None:
    """In a process of its own, so that the peak is this training's."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_windows as t
from pathlib import Path
import numpy as np, torch
from affuse.cache.store import Features, FeatureStore, Row
from affuse.corpora._manifest import Clip, Manifest
from affuse.corpora._tracks import Track
folder = Path({str(tmp_path)!r})
n, generator = 2 * 3600, np.random.default_rng(0)
times = (np.arange(n * 30) + 0.5) / 30
state = np.interp(times, np.arange(n + 1), generator.uniform(-1, 1, n + 1))
Track(times, np.stack([state, -state], 1)).write(folder / "long.csv")
audio = np.repeat(state[:, None], 3, 1)
store = FeatureStore(folder / "features")
facts = dict(modality="audio", dim=3, dtype="float16")
store.write("audio", "0", dict(facts, name="audio"), [(Row("long", n_frames=len(times)),
    Features(audio, times))])
wide = np.zeros((n * 25, 512), np.float16); wide[:, :3] = 1
store.write("visual", "0", dict(facts, name="visual", modality="visual", dim=512),
    [(Row("long", n_frames=len(wide)), Features(wide, (np.arange(len(wide)) + 0.5) / 25))])
del wide, audio
manifest = Manifest([Clip(id="long", speaker="s", labels=folder / "long.csv")])
with open("/proc/self/clear_refs", "w") as file: file.write("5")
peak = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
before = peak()
found = t.windows(manifest, FeatureStore(folder / "features"), stride=1.0)
fusion = t.Steps({{"audio": 3, "visual": 512}})
head = t.Joint(fusion.width, (), t.DIMENSIONS, loss={{"dimension_loss": "ccc"}})
fronts = {{"audio": t.Front((3,)), "visual": t.Front((512,))}}
model = t.EmotionModel(fronts, fusion, head)
t.initialise(model, found.labelled(), standardised=True)
t.fit(model, found.labelled(), t.TrainingSettings(epochs=1, batch=64))
model.posterior(found)
print((peak() - before) / 2**20, len(found))
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    gib, n_windows = child.stdout.split()
    assert float(gib) < 1.0 and int(n_windows) >= 450


def test_what_scores_clips_scores_moments(tmp_path: Path) -> None:
    manifest, store = corpus(tmp_path)
    found = windows(manifest, store, length=8, seconds=0.4, stride=0.4)
    posterior = trained(found).posterior(found)
    scored = evaluate(posterior, manifest, n_draws=50)
    direct = metrics.figures(posterior, truth_of(found))
    assert scored.figures["ccc:valence"].value == pytest.approx(direct["ccc:valence"], abs=1e-4)
    assert len(set(scored.truth.speakers)) == 4
    listed = moments(manifest, posterior.ids)
    assert listed.ids == list(posterior.ids) and moments(listed, posterior.ids) is listed
    with pytest.raises(PosteriorMismatch, match="does not list"):
        moments(Manifest([Clip(id="other")]), posterior.ids)


def test_jca_takes_steps_that_stand_as_they_are() -> None:
    """And what is masked at a window's edge does not move the other steps."""
    torch.manual_seed(0)
    still = JCA({"audio": 5, "visual": 4}, steps=6, width=8, output="steps", resample=False)
    moved = JCA({"audio": 5, "visual": 4}, steps=6, width=8, output="steps")
    moved.load_state_dict(still.state_dict())
    times = (torch.arange(6) + 0.5).expand(2, 6)
    full = torch.ones(2, 6, dtype=torch.bool)
    streams = {n: Stream(torch.randn(2, 6, d), full, times) for n, d in still.dims.items()}
    torch.testing.assert_close(still(streams).vector, moved(streams).vector, atol=1e-4, rtol=1e-4)
    edge = full.clone()
    edge[:, 0] = False
    cut = {n: s._replace(mask=edge, times=times.masked_fill(~edge, torch.nan)) for n, s in streams.items()}
    assert still(cut).mask is not None and still(cut).mask.equal(edge)
    assert still({"visual": streams["visual"]}).vector.shape == (2, 6, 16)
    with pytest.raises(RecipeError, match=r"windows\.length"):
        JCA({"audio": 5}, steps=4, resample=False)({"audio": streams["audio"]})


@pytest.mark.parametrize("name", ["jca", "rjca", "dca", "ca", "audio", "visual"])
def test_recipes_over_time_train_and_answer(tmp_path: Path, name: str) -> None:
    manifest, store = corpus(tmp_path, n_clips=3, seconds=20.0)
    settings = ["training.epochs=1", "training.folds=3", "windows.stride=0.64"]
    run = train(Recipe.read(f"{name}-over-time", override=settings), manifest, store, tmp_path / "run")
    answers = run.out_of_fold
    assert set(parted(answers.ids)) == {"c0", "c1", "c2"} and len(answers) == 3 * 600
    assert all(np.isfinite(v).all() and abs(v).max() <= 1 for v in answers.dimensions.values())
    assert {row["on"] for row in results(run, manifest)} == {"fold 0", "fold 1", "fold 2", "all folds"}
