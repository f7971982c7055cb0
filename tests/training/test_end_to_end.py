"""Training from media: the same results as from cached features, fine-tuning, resumption, several processes."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from affuse.cache.store import FeatureStore
from affuse.cli import main
from affuse.corpora.demo import make_demo_corpus
from affuse.errors import LeakError, RecipeError
from affuse.inference.recordings import predict
from affuse.inference.robustness import degrade
from affuse.manifest import Clip, Manifest
from affuse.recipes.encoder_settings import EncoderSettings
from affuse.recipes.recipe import Recipe
from affuse.training import loop
from affuse.training.cross_validation import train
from affuse.training.dataset import MediaLoading
from affuse.training.learner import build_network, fit_recipe
from affuse.training.loop import build_optimizer, fit
from affuse.training.metadata import describe_run
from affuse.training.model import EmotionModel
from affuse.training.run import Run

from ..checkpoints import speech

torch.set_num_threads(1)

STEMS = """
[encoders.audio]
name = "melstem"
dim = 24
train = "all"
[encoders.visual]
name = "facestem"
width = 4
dim = 24
size = 32
train = "all"
"""
SYSTEM = """
[fusion]
name = "concat"
width = 16
dropout = 0.0
[head]
name = "separate"
[training]
epochs = 2
batch = 4
folds = 2
learning_rate = 1e-3
warmup = 0.0
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Return twelve clips of two speakers from the built-in corpus."""
    return make_demo_corpus(tmp_path_factory.mktemp("demo"), n_speakers=2, n_repetitions=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return the folder of a small speech model with layer norms, as transformers saves it."""
    return speech(tmp_path_factory.mktemp("hub") / "speech", "Wav2Vec2", large=True)


@pytest.fixture
def recipe(tmp_path):
    """Return a function that writes and reads a recipe."""

    def written(encoders=STEMS, *, system=SYSTEM, override=()):
        path = tmp_path / "recipe-e2e.toml"
        path.write_text(encoders + system)
        return Recipe.read(path, override=override)

    return written


def from_media(recipe, manifest):
    """Return the dataset of a manifest."""
    store = FeatureStore("nowhere")
    return Run(Path("nowhere"), recipe, describe_run(recipe, manifest, store)).dataset(manifest, store)[0]


def wav2vec2(checkpoint, **settings):
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(['[encoders.audio]\nname = "wav2vec2"', f'checkpoint = "{checkpoint}"', *lines])


def test_untrained_fine_tuning_predicts_as_the_run_on_cached_features(clips, checkpoint, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clips.write("clips.csv")
    extracted = CliRunner().invoke(
        main, ["extract", "clips.csv", "-o", "features", "-e", f"wav2vec2:{checkpoint},layers=-2:-1", "-e", "hog,fps=3"]
    )
    assert extracted.exit_code == 0, extracted.output
    store = FeatureStore("features")
    cached = train(recipe(""), clips, store, out="cached")
    media = wav2vec2(checkpoint, layers="-2:-1", train="last 1 layer")
    media += '\n[encoders.visual]\nname = "hog"\nfps = 3\n'
    still = recipe(media, override=["training.learning_rate=0", "encoders.audio.learning_rate=1e-12"])
    run = train(still, clips, store, out="tuned", start=tmp_path / "cached")
    ours, theirs = run.out_of_fold.probabilities, cached.out_of_fold.probabilities
    assert np.ptp(theirs, axis=0).max() > 0.01, "posteriors that never differ prove nothing"
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    changed = Manifest([*clips[:-1], dataclasses.replace(clips[-1], valence=9.0)])
    with pytest.raises(LeakError, match="other clips, labels or folds"):
        train(still, changed, store, out="leaking", start=tmp_path / "cached")
    other = recipe(media.replace("-2:-1", "last"))
    with pytest.raises(RecipeError, match="other features than encoders.audio makes"):
        train(other, clips, store, out="unlike", start=tmp_path / "cached")


@pytest.mark.parametrize("how", ["none", "all", "last 1 layer", "lora"])
def test_only_the_weights_that_the_recipe_trains_change(clips, checkpoint, recipe, how, tmp_path):
    if how == "lora":
        pytest.importorskip("peft")
    tuned = recipe(wav2vec2(checkpoint, train=how, learning_rate=1e-2), override=["training.epochs=1"])
    samples = from_media(tuned, clips)
    model = build_network(tuned, samples, seed=0)
    before = {n: p.clone() for n, p in model.encoders.named_parameters()}
    fit(model, samples, tuned.training)
    after = dict(model.encoders.named_parameters())
    moved = {n for n, p in after.items() if not torch.equal(p, before[n])}
    last = {n for n in before if ".layers.2." in n}
    if how == "none":
        assert not moved
    elif how == "all":
        idle = {n for n in before if not ("masked_spec" in n or "encoder.layer_norm" in n)}
        assert moved >= {n for n in idle if "k_proj.bias" not in n}
    elif how == "last 1 layer":
        assert moved == last - {n for n in last if "k_proj.bias" in n} or moved == last
    else:
        assert moved and all("lora_" in n for n in moved)
    model.save(tmp_path / "model.safetensors")
    again = EmotionModel.load(tmp_path / "model.safetensors")
    ours, theirs = (m.posterior(samples).probabilities for m in (model, again))
    np.testing.assert_array_equal(ours, theirs)
    size = (tmp_path / "model.safetensors").stat().st_size
    if how != "all":
        assert size < 4 * sum(p.numel() for p in model.parameters()), "frozen weights were saved"


def test_learning_rate_decays_with_the_distance_from_the_last_layer(clips, checkpoint, recipe):
    tuned = recipe(wav2vec2(checkpoint, train="all", learning_rate=1e-3, layer_decay=0.5))
    model = build_network(tuned, from_media(tuned, clips), seed=0)
    rates = {id(p): g["rate"] for g in build_optimizer(model, tuned.training).param_groups for p in g["params"]}
    named = dict(model.named_parameters())
    place = "encoders.0.encoder.model.encoder.layers.{}.attention.v_proj.weight"
    found = [rates[id(named[place.format(i)])] for i in range(3)]
    assert found == pytest.approx([2.5e-4, 5e-4, 1e-3])
    assert rates[id(named["encoders.0.encoder.model.feature_projection.projection.weight"])] == pytest.approx(1.25e-4)
    assert {rates[id(p)] for p in model.fusion.parameters()} == {1e-3}


def gradients(recipe, clips, **changes):
    """Train one step; return the history and the model."""
    override = [f"{k.replace('__', '.')}={v}" for k, v in changes.items()]
    tuned = recipe(override=["training.epochs=1", "training.batch=12", *override])
    samples = from_media(tuned, clips)
    model = build_network(tuned, samples, seed=0)
    for part in model.modules():  # batches of other sizes have other statistics
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.track_running_stats, part.training = True, False
            part.train = lambda mode=True, part=part: part
    history = fit(model, samples, tuned.training)
    return history, model


@pytest.mark.parametrize("changes", [{"training__accumulate": 3}, {"encoders__audio__checkpointing": "true"}])  # noqa: E501
def test_options_that_save_memory_make_the_same_step(clips, recipe, changes):
    whole, _ = gradients(recipe, clips)
    saving, _ = gradients(recipe, clips, **changes)
    assert saving[0]["loss"] == pytest.approx(whole[0]["loss"], rel=1e-5)
    assert saving[0]["gradient"] == pytest.approx(whole[0]["gradient"], rel=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_nearly_the_same(clips, recipe, precision):
    curves = []
    for each in ("float32", precision):
        tuned = recipe(override=["training.epochs=3", f"training.precision={each}"])
        samples = from_media(tuned, clips)
        history = fit(build_network(tuned, samples, seed=0), samples, tuned.training)
        assert all(np.isfinite(list(line.values())).all() for line in history)
        curves.append([line["loss"] for line in history])
    assert curves[1] == pytest.approx(curves[0], rel=0.1)
    assert curves[1][2] < curves[1][0]


def test_twenty_interruptions_do_not_change_the_result(clips, recipe, tmp_path, monkeypatch):
    augmented = recipe(
        STEMS + "[augmentation]\nsnr = [5, 10]\nflip = 0.5\ncrop = 1.0\ntime_mask = 0.1\n",
        override=["training.epochs=6", "training.ema=0.9", "fusion.dropout=0.2"],
    )
    samples = from_media(augmented, clips)
    whole = build_network(augmented, samples, seed=0)
    history = fit(whole, samples, augmented.training)
    ends = np.random.default_rng(0).integers(1, 3, 20)
    real, state = loop._step, tmp_path / "x.state"
    for n, left in enumerate(ends):
        done = []

        def step(*arguments, done=done, left=left):
            if len(done) == left:
                raise KeyboardInterrupt
            done.append(1)
            return real(*arguments)

        monkeypatch.setattr(loop, "_step", step)
        parted = build_network(augmented, samples, seed=n)  # other weights, which the checkpoint must replace
        try:
            again = fit(parted, samples, augmented.training, state_file=state, save_every=0)
            break
        except KeyboardInterrupt:
            continue
    same = [{k: v for k, v in line.items() if k != "seconds"} for line in history]
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in again] == same
    for a, b in zip(whole.state_dict().values(), parted.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_two_processes_train_the_same_model_as_one(clips, recipe, tmp_path):
    pytest.importorskip("accelerate")
    clips.write(tmp_path / "clips.csv")
    encoders = '[encoders.audio]\nname = "wavestem"\ndim = 16\ndepth = 1\ntrain = "all"\n'
    override = ["training.epochs=3", "training.folds=2"]
    alone = train(recipe(encoders, override=override), clips, FeatureStore("none"), out=tmp_path / "one")
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
        "-m",
        "affuse",
        "train",
        "recipe-e2e.toml",
        "--manifest",
        "clips.csv",
        "--out",
        "two",
        "--set",
        override[0],
        "--set",
        override[1],
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    curves = [
        [json.loads(line)["loss"] for line in log.read_text().splitlines()]
        for run in ("one", "two")
        for log in sorted((tmp_path / run / "logs").glob("*.jsonl"))
    ]
    assert len(set(curves[0])) == 3
    assert curves[2:] == [pytest.approx(curve, rel=1e-4) for curve in curves[:2]]
    found = Run.open(tmp_path / "two").out_of_fold.probabilities
    np.testing.assert_allclose(found, alone.out_of_fold.probabilities, atol=1e-3)


def test_clip_that_cannot_be_decoded_is_reported_and_has_no_prediction(clips, recipe, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no media at all" * 100)
    bad = Clip("broken", video=broken, speaker=clips[0].speaker, emotion="sad", valence=0.0)
    lines = []
    run = train(
        recipe(override=["training.epochs=1"]),
        Manifest([*clips, bad]),
        FeatureStore(tmp_path / "none"),
        out=tmp_path / "run",
        progress=lines.append,
    )
    posterior = run.out_of_fold.at(["broken"])
    assert np.isnan(posterior.probabilities).all()
    assert np.isfinite(run.out_of_fold.at(clips.ids).probabilities).all()
    assert any("broken (unreadable)" in line for line in lines)


def test_features_and_media_are_combined(clips, recipe, tmp_path):
    store = tmp_path / "features"
    clips.write(tmp_path / "clips.csv")
    done = CliRunner().invoke(main, ["extract", str(tmp_path / "clips.csv"), "-o", str(store), "-e", "logmel"])
    assert done.exit_code == 0, done.output
    mixed = recipe('[encoders.visual]\nname = "facestem"\ntrain = "all"\n')
    run = train(mixed, clips, FeatureStore(store), out=tmp_path / "run", streams=["logmel"])
    assert set(run.metadata.streams) == {"audio", "visual"}
    again = Run.open(run.path).predict(clips, FeatureStore(store))
    assert np.isfinite(again.probabilities).all()
    anew = predict([Run.open(run.path)], clips, features=FeatureStore(store)).posterior
    np.testing.assert_allclose(anew.probabilities, again.probabilities, atol=1e-5)
    with pytest.raises(RecipeError, match="reads media"):
        next(iter(degrade(run, clips, FeatureStore(store))))


def test_built_in_corpus_is_fitted_from_its_media(clips, recipe):
    tuned = recipe(override=["training.epochs=50", "training.batch=12", "training.learning_rate=1e-2"])
    samples = from_media(tuned, clips)
    model, _ = fit_recipe(tuned, samples, seed=0)
    predicted = model.posterior(samples).probabilities.argmax(1)
    labels = [sample.emotion for sample in samples.samples]
    assert np.mean(predicted == labels) >= 0.9, "not even the training clips are recognised"


def test_dry_run_estimates_and_writes_nothing(clips, recipe, tmp_path):
    clips.write(tmp_path / "clips.csv")
    recipe()
    done = CliRunner().invoke(
        main,
        [
            "train",
            str(tmp_path / "recipe-e2e.toml"),
            "--manifest",
            str(tmp_path / "clips.csv"),
            "--out",
            str(tmp_path / "run"),
            "--dry-run",
            "--find-batch-size",
            "--set",
            "encoders.visual.train=none",
        ],
    )
    assert done.exit_code == 0, done.output
    assert "models: 2, each trained on up to 6 clips in 4 steps" in done.output
    assert "trained weights" in done.output and "(100.0%)" not in done.output
    assert "largest batch that fits: 6 clips" in done.output
    assert not (tmp_path / "run").exists()


def test_lack_of_memory_is_reported_with_settings_that_need_less(clips, recipe, monkeypatch):
    tuned = recipe()
    samples = from_media(tuned, clips)

    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(loop, "_step", full)
    with pytest.raises(Exception, match="(?i)raise training.accumulate from 1 to 2") as caught:
        fit(build_network(tuned, samples, seed=0), samples, tuned.training)
    assert type(caught.value).__name__ == "EnvironmentFailure"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[encoders.audio]\nname = "melstem"\ntrain = "most"\n', "expected none, all, lora or"),
        ('[encoders.audio]\nname = "melstem"\nwidht = 3\n', "has no option 'widht'"),
        ('[encoders.visual]\nname = "melstem"\n', "begins with its modality"),
        ('[encoders.audio]\nname = "melstom"\n', "did you mean 'melstem'"),
        ('[encoders.audio]\nname = "melstem"\n[augmentation]\nsnr = [9]\n', "lowest, highest"),
    ],
)
def test_problems_of_a_recipe_are_reported(recipe, text, message):
    with pytest.raises(RecipeError, match=message):
        recipe(text)


def test_more_layers_than_the_encoder_has_are_refused(clips, checkpoint, recipe):
    settings = EncoderSettings("wav2vec2", str(checkpoint), train="last 9 layers")
    assert not settings.problems("audio")
    tuned = recipe(wav2vec2(checkpoint, train="last 9 layers"))
    with pytest.raises(RecipeError, match="wav2vec2 has only 3 layers"):
        from_media(tuned, clips)


@pytest.mark.parametrize(
    ("name", "smaller"),
    [
        (
            "averformer-e2e",
            [
                "encoders.audio.dim=32",
                "encoders.audio.depth=1",
                "encoders.audio:mel.dim=32",
                "encoders.audio:mfcc.dim=32",
                "fusion.width=32",
                "encoders.visual.frames=8",
            ],
        ),
        (
            "avtca-e2e",
            [
                "encoders.visual.width=4",
                "encoders.visual.units=[1, 1, 1]",
                "encoders.visual.dim=32",
                "encoders.visual.size=64",
                "encoders.visual.frames=5",
                "fusion.width=32",
            ],
        ),
    ],
)
def test_systems_of_both_papers_are_trained_on_the_media_of_ravdess(data, tmp_path, name, smaller):
    videos = sorted((data / "ravdess" / "video").glob("*.mp4"))
    clips = [Clip(v.stem, video=v, speaker=str(i), emotion=v.stem[6:8]) for i, v in enumerate(videos)]
    recipe = Recipe.read(name, override=[*smaller, "training.epochs=1"])
    loading = MediaLoading(face_detector=data / "weights" / "yunet.onnx")
    split = ["validation" if i > 7 else "train" for i in range(10)]
    manifest = Manifest(dataclasses.replace(c, split=s) for c, s in zip(clips, split, strict=True))
    run = train(recipe, manifest, FeatureStore(tmp_path / "none"), out=tmp_path / "run", loading=loading)
    assert len(run.out_of_fold) == 2
    assert np.isfinite(run.out_of_fold.probabilities).all()
