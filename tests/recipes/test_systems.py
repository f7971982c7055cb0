"""Every recipe: it says what it is, and its system can learn two dozen clips by heart."""

import dataclasses

import numpy as np
import pytest

from affuse.cache.store import Features
from affuse.recipes.recipe import FOLDER, Recipe, StreamSettings, TargetSettings, TrainingSettings, names
from affuse.training.dataset import CachedDataset, Sample
from affuse.training.learner import learn

EMOTIONS = ("neutral", "angry", "happy")
SHAPES = {"audio": (12,), "visual": (8,)}
RECIPES = {name: Recipe.read(name) for name in names()}
ON_CLIPS = [name for name, r in RECIPES.items() if not (r.members or r.windows or r.encoders)]
NARROW = {"jca": {"width": 16}, "avtca": {"width": 32}, "averformer": {"width": 32}}
FREE = {"logistic": {"C": 10.0}, "svm": {"C": 100.0}, "lightgbm": {"min_clips": 1, "features": 1.0}}


def clips(n=24, seed=0):
    rng = np.random.default_rng(seed)
    looks = {name: rng.normal(size=(len(EMOTIONS), dim)) for name, (dim,) in SHAPES.items()}
    samples = []
    for i in range(n):
        streams = {}
        for name, (dim,) in SHAPES.items():
            length = int(rng.integers(3, 12))
            values = rng.normal(size=(length, dim)) + looks[name][i % len(EMOTIONS)]
            times = (np.arange(length) + 0.5) * 2 / length
            streams[name] = Features(values.astype(np.float32), times.astype(np.float32))
        dimensions = np.array([rng.normal()], np.float32)
        samples.append(Sample(f"clip{i}", streams, i % len(EMOTIONS), dimensions))
    speakers = tuple(f"speaker{i % 6}" for i in range(n))
    return CachedDataset(tuple(samples), speakers, SHAPES, EMOTIONS, ("valence",))


@pytest.mark.parametrize("name", names())
def test_a_recipe_begins_with_the_command_that_runs_it(name):
    first = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# affuse train {name} ")
    assert Recipe.read(name).about


@pytest.mark.parametrize("name", ON_CLIPS)
def test_a_system_learns_two_dozen_clips_by_heart(name):
    recipe, samples = RECIPES[name], clips()
    if keep := recipe.streams.modalities:
        samples = dataclasses.replace(
            samples,
            shapes={k: SHAPES[k] for k in keep},
            samples=tuple(s._replace(streams={k: s.streams[k] for k in keep}) for s in samples.samples),
        )
    fusion, head = recipe.fusion, recipe.head
    if fusion and fusion.name in NARROW:
        fusion = dataclasses.replace(fusion, options=fusion.options | NARROW[fusion.name])
    head = dataclasses.replace(head, options=head.options | FREE.get(head.name, {}))
    faster = dataclasses.replace(recipe.training, epochs=40, batch=24, learning_rate=5e-3, warmup=2, patience=0)
    recipe = dataclasses.replace(recipe, training=faster, fusion=fusion, head=head)
    system, _ = learn(recipe, samples, seed=0)
    posterior = system.posterior(samples)
    wanted = [sample.emotion for sample in samples.samples]
    assert (posterior.probabilities.argmax(1) == wanted).mean() == 1


@pytest.mark.parametrize("section", [TargetSettings, StreamSettings, TrainingSettings])
def test_every_option_stands_in_the_docs(section):
    told = (FOLDER.parent / "docs" / "systems.md").read_text(encoding="utf-8")
    assert not [f.name for f in dataclasses.fields(section) if f".{f.name}`" not in told]
