"""Dimensions over time: windows, delays, and predictions at the moments of the labels."""

import subprocess
import sys
from dataclasses import replace
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
from affuse.posteriors.over_time import interpolate_predictions, manifest_over_time, rows_by_clip
from affuse.recipes.recipe import Recipe, TrainingSettings
from affuse.recipes.window_settings import WindowSettings
from affuse.tensors import Fused, Stream, Width
from affuse.training.cross_validation import train
from affuse.training.dataset import gather
from affuse.training.loop import fit, initialise
from affuse.training.model import EmotionModel, InputNorm
from affuse.training.streams import choose_streams
from affuse.training.window_dataset import WindowDataset, average_stretches, cut_windows, label_stretches

torch.set_num_threads(1)
DIMENSIONS = ("valence", "arousal")


class Steps(Fusion):
    """Concatenates the streams of every step: the smallest fusion that keeps time."""

    def __init__(self, dims: dict[str, int]) -> None:
        super().__init__(dims)
        self.width = Width(sum(dims.values()), {})

    def forward(self, streams: dict[str, Stream]) -> Fused:
        values = torch.cat([streams[name].values for name in self.dims], dim=2)
        mask = torch.stack([s.mask for s in streams.values()]).any(dim=0)
        return Fused(values, mask, {}, {})


def random_walk(n: int, generator: np.random.Generator, width: int = 60) -> np.ndarray:
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
    """Make clips whose features at t contain the state at t, and whose labels contain the state at t - delay."""
    generator = np.random.default_rng(0)
    fine = np.arange(0, seconds + 1, 0.01)
    clips, rows = [], {"audio": [], "visual": []}
    for i in range(n_clips):
        state = np.stack([random_walk(len(fine), generator, 300) for _ in DIMENSIONS], axis=1)
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
    return cut_windows(samples, manifest, WindowSettings(**settings))  # type: ignore[arg-type]


def test_stretch_has_the_mean_of_its_frames_and_gaps_are_masked() -> None:
    times = np.array([0.25, 0.75, 1.25, 1.75, 5.25])
    features = Features(np.arange(5.0)[:, None], times)
    values, there = average_stretches(features, np.arange(7.0), spacing=0.5)
    assert there.tolist() == [True, True, False, False, False, True]
    np.testing.assert_allclose(values[:, 0], [0.5, 2.5, 0, 0, 0, 4])
    fast, there = average_stretches(features, np.array([0.0, 0.1, 0.2, 0.3]), spacing=0.5)
    assert there.all() and (fast == 0).all()  # all within the first frame
    before, there = average_stretches(features, np.array([-2.0, -1.0, 0.0, 1.0]), spacing=0.5)
    assert there.tolist() == [False, False, True]


def test_label_of_a_stretch_is_the_last_or_the_mean_and_ignores_nan() -> None:
    times, values = np.array([0.2, 0.5, 1.0, 1.5]), np.array([1.0, np.nan, 3.0, np.nan])
    edges = np.array([0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(label_stretches(times, values, edges, "last"), [3, np.nan, np.nan])
    np.testing.assert_allclose(label_stretches(times, values, edges, "mean"), [2, np.nan, np.nan])


def test_every_moment_ends_exactly_one_sub_sequence(tmp_path: Path) -> None:
    """Windows slide as in the papers: 32 windows that are one frame apart, then a jump."""
    found = windows(*corpus(tmp_path, n_clips=1, seconds=40.0), length=4, seconds=0.8, stride=0.1)
    ends = found.places[:, 1:] + 0.8 * np.arange(1, 5)
    inside = np.sort(ends[ends <= 40.0 + 1e-9])
    np.testing.assert_allclose(inside, 0.1 * np.arange(1, 401), atol=1e-6)


def test_features_and_delayed_labels_are_aligned(tmp_path: Path) -> None:
    """The features of a sub-sequence have the label that was annotated `delay` seconds later."""
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
def test_search_finds_the_true_delay(tmp_path: Path, delay: float) -> None:
    candidates = [round(0.4 * i, 1) for i in range(13)]
    found = windows(*corpus(tmp_path, delay=delay), length=8, seconds=0.8, stride=0.8, search=tuple(candidates))
    assert found.labelled().with_estimated_delays().delays == (delay, delay)


def trained(found: WindowDataset) -> EmotionModel:
    torch.manual_seed(0)
    fusion = Steps({"audio": 3, "visual": 3})
    head = Joint(fusion.width, (), DIMENSIONS, loss={"dimension_loss": "ccc"})
    model = EmotionModel({n: InputNorm((3,)) for n in fusion.dims}, fusion, head)
    model.config["delays"] = list(found.delays)
    initialise(model, found.labelled(), standardise=True)
    fit(model, found.labelled(), TrainingSettings(epochs=6, batch=16, learning_rate=0.05))
    return model


def test_predictions_stand_at_the_moments_of_the_labels(tmp_path: Path) -> None:
    manifest, store = corpus(tmp_path, delay=2.0)
    found = windows(manifest, store, length=8, seconds=0.4, stride=0.2, delay=(2.0,))
    model = trained(found)
    posterior = model.posterior(found)
    truth = found.labels()
    assert posterior.ids == truth.ids and len(posterior) == 4 * 1800
    figures = metrics.compute_metrics(posterior, truth)
    for name in DIMENSIONS:
        assert figures[f"ccc:{name}"] > 0.97
        known = np.isfinite(truth.dimensions[name])
        expected = audmetric.concordance_cc(truth.dimensions[name][known], posterior.dimensions[name][known])
        assert figures[f"ccc:{name}"] == pytest.approx(expected, abs=1e-9)
    # Without its delay the same model predicts two seconds too early.
    model.config["delays"] = [0.0, 0.0]
    early = metrics.compute_metrics(model.posterior(found), truth)
    assert early["ccc:valence"] < figures["ccc:valence"] - 0.2
    again = Labels.from_manifest(manifest_over_time(manifest, posterior.ids), ())
    np.testing.assert_allclose(again.dimensions["arousal"], truth.dimensions["arousal"], atol=1e-5)


def test_clip_without_one_modality_or_without_labels_is_predicted(tmp_path: Path) -> None:
    manifest, store = corpus(tmp_path)
    found = windows(manifest, store, length=8, seconds=0.8, stride=0.4)
    model = trained(found)
    bare = Manifest([Clip(id="c0")])
    plain = windows(bare, store, length=8, seconds=0.8, stride=0.4)
    without_audio = tuple(s._replace(streams={**s.streams, "audio": None}) for s in plain.samples)
    for one in (plain, replace(plain, samples=without_audio)):
        posterior = model.posterior(one)
        assert np.isfinite(posterior.dimensions["valence"]).all()
        assert len(posterior) == 151 and set(rows_by_clip(posterior.ids)) == {"c0"}


def test_interpolated_predictions_are_clipped_and_smoothed() -> None:
    ends = np.array([[2.0], [1.0], [3.0]])
    answers = np.array([[4.0], [0.0], [0.0]])
    times = np.array([0.5, 1.5, 2.0, 9.0])
    plain = interpolate_predictions(ends, answers, times)
    np.testing.assert_allclose(plain[:, 0], [0, 2, 4, 0])
    bound = interpolate_predictions(ends, answers, times, bounds=(-1, 1), average=(1.0,))
    np.testing.assert_allclose(bound[:, 0], [0, 1, 1, 0])


def test_recipe_with_windows_is_written_and_read_again(tmp_path: Path) -> None:
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


def test_two_hours_at_thirty_hertz_train_within_one_gibibyte(tmp_path: Path) -> None:
    """The training runs in another process, so that the peak of memory is its own."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_window_dataset as t
from pathlib import Path
import numpy as np, torch
from affuse.cache.store import Features, FeatureStore, Row
from affuse.manifest import Clip, Manifest
from affuse.annotations import Track
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
norms = {{"audio": t.InputNorm((3,)), "visual": t.InputNorm((512,))}}
model = t.EmotionModel(norms, fusion, head)
t.initialise(model, found.labelled(), standardise=True)
t.fit(model, found.labelled(), t.TrainingSettings(epochs=1, batch=64))
model.posterior(found)
print((peak() - before) / 2**20, len(found))
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    gib, n_windows = child.stdout.split()
    assert float(gib) < 1.0 and int(n_windows) >= 450


def test_evaluation_of_clips_also_evaluates_moments(tmp_path: Path) -> None:
    manifest, store = corpus(tmp_path)
    found = windows(manifest, store, length=8, seconds=0.4, stride=0.4)
    posterior = trained(found).posterior(found)
    scored = evaluate(posterior, manifest, n_resamples=50)
    direct = metrics.compute_metrics(posterior, found.labels())
    assert scored.metrics["ccc:valence"].value == pytest.approx(direct["ccc:valence"], abs=1e-4)
    assert len(set(scored.labels.speakers)) == 4
    listed = manifest_over_time(manifest, posterior.ids)
    assert listed.ids == list(posterior.ids) and manifest_over_time(listed, posterior.ids) is listed
    with pytest.raises(PosteriorMismatch, match="does not list"):
        manifest_over_time(Manifest([Clip(id="other")]), posterior.ids)


def test_jca_uses_aligned_steps_without_resampling() -> None:
    """A masked step at the edge of a window does not move the other steps."""
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
def test_recipes_over_time_are_trained_and_predict(tmp_path: Path, name: str) -> None:
    manifest, store = corpus(tmp_path, n_clips=3, seconds=20.0)
    settings = ["training.epochs=1", "training.folds=3", "windows.stride=0.64"]
    run = train(Recipe.read(f"{name}-over-time", override=settings), manifest, store, out=tmp_path / "run")
    answers = run.out_of_fold
    assert set(rows_by_clip(answers.ids)) == {"c0", "c1", "c2"} and len(answers) == 3 * 600
    assert all(np.isfinite(v).all() and abs(v).max() <= 1 for v in answers.dimensions.values())
    assert {row["on"] for row in run.results(manifest)} == {"fold 0", "fold 1", "fold 2", "all folds"}
    again = run.predict(manifest, store)
    assert again.ids == answers.at(again.ids).ids and list(rows_by_clip(again.ids)) == manifest.ids
    for dimension, values in answers.at(again.ids).dimensions.items():
        np.testing.assert_allclose(again.dimensions[dimension], values, atol=1e-5)


def test_length_of_a_dataset_is_its_number_of_training_items(tmp_path: Path) -> None:
    """The length of windows used to be the number of windows, and `ids` had another length."""
    manifest, store = corpus(tmp_path, n_clips=2, seconds=20.0)
    clips = gather(manifest, store, choose_streams(store), emotions=(), dimensions=DIMENSIONS)
    found = cut_windows(clips, manifest, WindowSettings(length=4, seconds=1.0, stride=0.5))
    for dataset in (clips, found):
        assert dataset.n_clips == len(dataset.ids) == 2
        assert len(dataset) == len(dataset.lengths) == sum(len(rows) for rows, _ in dataset.prediction_batches())
    assert len(clips) == 2 and len(found) == len(found.places) > 2
