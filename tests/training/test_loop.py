"""The training loop: reproducibility, exact resumption, selection of epochs, schedules, augmentation, logs."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from affuse.errors import RecipeError
from affuse.recipes.recipe import Recipe, TrainingSettings
from affuse.tensors import Stream, Targets
from affuse.training import feature_augmentation, loop
from affuse.training.dataset import gather
from affuse.training.learner import build_network, fit_recipe, validation_split
from affuse.training.loop import build_optimizer, fit, initialise, seeded
from affuse.training.model import EmotionModel
from affuse.training.streams import choose_streams


@pytest.fixture
def samples(corpus):
    manifest, store = corpus
    return gather(manifest, store, choose_streams(store), emotions=manifest.emotions, dimensions=["valence"])


def model_of(samples, seed=0):
    with seeded(seed):
        model = EmotionModel.build(
            samples.shapes,
            ("afg", {"gather_dropout": 0.2}),
            ("joint", {}),
            emotions=samples.emotions,
            dimensions=samples.dimensions,
        )
    initialise(model, samples, standardise=True)
    return model


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


SETTINGS = TrainingSettings(epochs=4, batch=8, ema=0.9, noise=0.1, frame_dropout=0.2)


def test_same_seed_gives_same_weights_and_keeps_the_state_of_the_callers_generator(samples):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second, other = model_of(samples), model_of(samples), model_of(samples)
    fit(first, samples, SETTINGS, seed=1)
    torch.rand(5)
    fit(second, samples, SETTINGS, seed=1)
    fit(other, samples, SETTINGS, seed=2)
    assert same(first, second) and not same(first, other)
    torch.manual_seed(3)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("patience", [0, 3])
def test_interrupted_training_ends_with_the_same_weights(samples, tmp_path, monkeypatch, patience):
    settings = TrainingSettings(epochs=5, batch=8, ema=0.9, patience=patience)
    validation = samples if patience else None
    whole, parted, log = model_of(samples), model_of(samples), tmp_path / "log.jsonl"
    history = fit(whole, samples, settings, validation=validation, seed=1)
    real, done = loop._epoch, []

    def interrupted(*arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments)

    state = tmp_path / "x.state"
    monkeypatch.setattr(loop, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(parted, samples, settings, validation=validation, seed=1, state_file=state, log=log, save_every=0)
    monkeypatch.setattr(loop, "_epoch", real)
    fresh = model_of(samples, seed=9)
    again = fit(fresh, samples, settings, validation=validation, seed=1, state_file=state, log=log)
    assert same(whole, fresh)
    assert [line["loss"] for line in again] == [line["loss"] for line in history]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert not state.exists()


def test_best_epoch_on_the_validation_clips_is_kept(samples):
    settings = TrainingSettings(epochs=30, batch=8, learning_rate=3e-3, patience=2, select="waf")
    model = model_of(samples)
    history = fit(model, samples, settings, validation=samples, seed=0)
    scores = [line["score"] for line in history]
    assert len(history) < 30
    assert len(history) == int(np.argmax(scores)) + 1 + 2


def test_biases_norms_and_uncertainties_do_not_decay(samples):
    model = model_of(samples)
    decayed, spared = build_optimizer(model, TrainingSettings(weight_decay=0.5)).param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    assert decayed["weight_decay"] == 0.5 and spared["weight_decay"] == 0
    assert any("log_variance" in names[id(p)] for p in spared["params"])
    assert not any("bias" in names[id(p)] for p in decayed["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_learning_rate_rises_then_falls_to_zero():
    rates = [loop.rate_factor(step, 100, 10, "cosine") for step in range(101)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert np.all(np.diff(rates[10:]) <= 0) and rates[100] == pytest.approx(0)
    assert loop.rate_factor(99, 100, 10, "constant") == 1


def test_balanced_sampling_draws_emotions_equally_often(samples):
    few = samples.where(i < 20 for i in range(len(samples)))
    drawn = loop.sample_epoch(few, TrainingSettings(balanced=True), torch.Generator().manual_seed(0))
    assert len(drawn) == len(few)
    many = [
        few.samples[r].emotion
        for seed in range(200)
        for r in loop.sample_epoch(few, TrainingSettings(balanced=True), torch.Generator().manual_seed(seed))
    ]
    np.testing.assert_allclose(np.bincount(many) / len(many), 1 / 3, atol=0.02)


def test_gradient_that_is_not_finite_stops_training_with_advice(samples):
    with pytest.raises(RecipeError, match="learning_rate"):
        fit(model_of(samples), samples, TrainingSettings(learning_rate=1e30, warmup=0, clip=0, epochs=9))


def test_validation_split_shares_no_speaker_with_the_training_clips(samples):
    train, validation = validation_split(samples, 0.3, seed=0)
    assert {s.speaker for s in train.samples}.isdisjoint(s.speaker for s in validation.samples)
    assert len(train) + len(validation) == len(samples)
    one = samples.where(s.speaker == "s0" for s in samples.samples)
    with pytest.raises(RecipeError, match="at least two speakers"):
        validation_split(one, 0.3, seed=0)


def test_training_without_any_clip_is_refused(samples):
    empty = samples.where(False for _ in samples.samples)
    with pytest.raises(RecipeError, match="No clip"):
        fit_recipe(Recipe.read("mer2023-afg-a"), empty, seed=0)


def prepared(n=6):
    generator = torch.Generator().manual_seed(0)
    streams = {}
    for name, time, dim in (("audio", 5, 3), ("visual", 4, 2)):
        mask = torch.arange(time)[None] < torch.tensor([time, 1, 2, time, 3, 2])[:n, None]
        values = torch.randn(n, time, dim, generator=generator).masked_fill(~mask[..., None], 0)
        streams[name] = Stream(values, mask, torch.zeros(n, time))
    return streams, Targets(torch.arange(n), torch.rand(n, 1, generator=generator))


def test_soft_hard_dropout_repeats_a_batch_four_times():
    streams, targets = prepared()
    found, repeated = feature_augmentation.soft_hard_dropout(
        streams, targets, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(repeated.emotion, targets.emotion.repeat(4))
    audio, visual = found["audio"], found["visual"]
    assert torch.equal(audio.values[:6], streams["audio"].values)
    share = audio.values[6:12].norm(dim=(1, 2)) / streams["audio"].values.norm(dim=(1, 2))
    other = visual.values[6:12].norm(dim=(1, 2)) / streams["visual"].values.norm(dim=(1, 2))
    assert torch.allclose(share + other, torch.ones(6)) and share.std() > 0
    assert audio.mask[12:18].any() and not visual.mask[12:18].any()
    assert visual.mask[18:].any() and not audio.mask[18:].any()


def test_frame_dropout_keeps_a_frame_of_every_clip():
    streams, _ = prepared()
    found = feature_augmentation.drop_frames(streams, 0.95, generator=torch.Generator().manual_seed(0))
    for name, stream in found.items():
        assert stream.mask.any(1).all()
        assert not (stream.mask & ~streams[name].mask).any()
        assert stream.mask.sum() < streams[name].mask.sum()


def test_noise_is_added_to_unmasked_steps_only():
    streams, _ = prepared()
    found = feature_augmentation.add_noise(streams, 1.0, generator=torch.Generator().manual_seed(0))
    for name, stream in found.items():
        assert (stream.values[~stream.mask] == 0).all()
        assert not torch.equal(stream.values, streams[name].values)


def test_tensorboard_contains_each_epoch_once(samples, tmp_path):
    """TensorBoard's reader finds the values of the JSON lines, also after an interruption."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model, log, state = model_of(samples), tmp_path / "logs" / "seed0.jsonl", tmp_path / "s.state"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_patience_is_over", lambda state, _: _stop_after(state, 2))
        with pytest.raises(KeyboardInterrupt):
            fit(model, samples, SETTINGS, log=log, state_file=state, save_every=0)
    fit(model_of(samples), samples, SETTINGS, log=log, state_file=state, save_every=0)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    events = reader.EventAccumulator(str(tmp_path / "logs" / "tensorboard" / "seed0")).Reload()
    for name in ("loss", "loss:emotion", "learning_rate"):
        shown = [(e.step, e.value) for e in events.Scalars(name)]
        assert [step for step, _ in shown] == [1, 2, 3, 4]
        assert [value for _, value in shown] == pytest.approx([line[name] for line in lines])


def _stop_after(state, epoch):
    if state.epoch == epoch:
        raise KeyboardInterrupt
    return False


def test_log_shows_which_stream_the_model_uses(samples):
    generator = np.random.default_rng(0)
    without_audio = tuple(
        s._replace(
            streams=s.streams
            | {
                "audio": s.streams["audio"]._replace(
                    values=generator.normal(size=s.streams["audio"].values.shape).astype(np.float32)
                )
            }
        )
        for s in samples.samples
    )
    samples = dataclasses.replace(samples, samples=without_audio)
    recipe = Recipe.read("averformer", override=["fusion.width=16", "fusion.layers=1"])
    model = build_network(recipe, samples, seed=0)
    initialise(model, samples, standardise=True)
    settings = TrainingSettings(epochs=8, batch=12, learning_rate=3e-3, precision="bfloat16")
    for line in fit(model, samples, settings):
        ratios = [line["gradient_ratio:audio"], line["gradient_ratio:visual"]]
        assert np.mean(ratios) == pytest.approx(1, abs=1e-3)
    assert line["accuracy:visual"] > line["accuracy:audio"]
