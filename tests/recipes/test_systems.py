"""Every recipe: its file says what it is, and its system can fit two dozen clips perfectly."""

import dataclasses
import itertools

import numpy as np
import pytest

from affuse.cache.store import Features
from affuse.recipes.recipe import FOLDER, Recipe, StreamSettings, TargetSettings, TrainingSettings, recipe_names
from affuse.training.dataset import CachedDataset, Sample
from affuse.training.learner import fit_recipe

EMOTIONS = ("neutral", "angry", "happy")
SHAPES = {"audio": (12,), "visual": (8,)}
RECIPES = {name: Recipe.read(name) for name in recipe_names()}
ON_CLIPS = [name for name, r in RECIPES.items() if not (r.members or r.windows or r.encoders)]
NARROW = {"jca": {"width": 16}, "avtca": {"width": 32}, "averformer": {"width": 32}}
UNREGULARISED = {"logistic": {"C": 10.0}, "svm": {"C": 100.0}, "lightgbm": {"min_clips": 1, "features": 1.0}}


def clips(shapes, n=24, seed=0):
    """Clips whose features depend on their emotion."""
    rng = np.random.default_rng(seed)
    means = {name: rng.normal(size=(len(EMOTIONS), dim)) for name, (dim,) in SHAPES.items()}
    samples = []
    for i in range(n):
        streams = {}
        for name, (dim,) in SHAPES.items():
            length = int(rng.integers(3, 12))
            values = rng.normal(size=(length, dim)) + means[name][i % len(EMOTIONS)]
            times = (np.arange(length) + 0.5) * 2 / length
            streams[name] = Features(values.astype(np.float32), times.astype(np.float32))
        streams = {name: streams[name] for name in shapes}
        dimensions = np.array([rng.normal()], np.float32)
        samples.append(Sample(f"clip{i}", streams, i % len(EMOTIONS), dimensions, f"speaker{i % 6}"))
    return CachedDataset(tuple(samples), shapes, EMOTIONS, ("valence",))


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_file_begins_with_a_description_and_its_command(name):
    lines = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    comment = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    assert len(comment) > 1, "a description, then the command"
    assert comment[-1].startswith(f"# affuse train {name} ")
    about = Recipe.read(name).about
    assert about and about[0].isupper() and len(about) <= 100


@pytest.mark.parametrize("name", ON_CLIPS)
def test_a_system_can_fit_two_dozen_clips(name):
    recipe = RECIPES[name]
    keep = recipe.streams.modalities or tuple(SHAPES)
    dataset = clips({stream: SHAPES[stream] for stream in keep})
    fusion, head = recipe.fusion, recipe.head
    if fusion and fusion.name in NARROW:
        fusion = dataclasses.replace(fusion, options=fusion.options | NARROW[fusion.name])
    head = dataclasses.replace(head, options=head.options | UNREGULARISED.get(head.name, {}))
    faster = dataclasses.replace(recipe.training, epochs=40, batch=24, learning_rate=5e-3, warmup=2, patience=0)
    recipe = dataclasses.replace(recipe, training=faster, fusion=fusion, head=head)
    model, _ = fit_recipe(recipe, dataset, seed=0)
    emotions = [sample.emotion for sample in dataset.samples]
    assert (model.posterior(dataset).probabilities.argmax(1) == emotions).mean() == 1


@pytest.mark.parametrize("section", [TargetSettings, StreamSettings, TrainingSettings])
def test_every_option_is_documented(section):
    text = (FOLDER.parent / "docs" / "systems.md").read_text(encoding="utf-8")
    assert not [f.name for f in dataclasses.fields(section) if f".{f.name}`" not in text]
