"""Every recipe for clips recognises emotions of unseen speakers in the built-in corpus."""

import pytest

from affuse.cache.store import FeatureStore
from affuse.corpora.demo import make_demo_corpus
from affuse.engines._extraction import extract
from affuse.recipes.recipe import Recipe, recipe_names
from affuse.training.dataset import CachedDataset, gather
from affuse.training.learner import fit_recipe
from affuse.training.streams import choose_streams

RECIPES = {name: Recipe.read(name) for name in recipe_names()}
ON_CLIPS = [name for name, r in RECIPES.items() if not (r.members or r.windows or r.encoders)]
ALONE = ("audio-only", "visual-only")
LARGE = ("averformer", "avtca", "mult")
"""Recipes for which ten of their forty epochs are enough."""
N_TRAINING_SPEAKERS = 7


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], tuple[CachedDataset, ...]]:
    """Training clips of seven speakers and test clips of three others, by the modalities of the recipe."""
    folder = tmp_path_factory.mktemp("demo")
    manifest = make_demo_corpus(folder, n_speakers=10, n_repetitions=2)
    store = FeatureStore(folder / "features")
    extract(manifest, ["logmel,kind=mfcc", "hog,fps=5"], store)
    speakers = sorted(manifest.speakers)[:N_TRAINING_SPEAKERS]
    found = {}
    for modalities in {RECIPES[name].streams.modalities for name in ON_CLIPS}:
        streams = choose_streams(store, modalities=modalities)
        samples = gather(manifest, store, streams, emotions=manifest.emotions, dimensions=["valence"])
        train = [sample.speaker in speakers for sample in samples.samples]
        found[modalities] = samples.where(train), samples.where([not t for t in train])
    return found


@pytest.mark.parametrize("name", ON_CLIPS)
def test_recipe_recognises_emotions_of_unseen_speakers(
    name: str, parts: dict[tuple[str, ...], tuple[CachedDataset, ...]]
) -> None:
    """A single stream cannot tell two pairs of the six emotions apart; chance is a sixth."""
    recipe = Recipe.read(name, override=["training.epochs=10"] if name in LARGE else [])
    train, test = parts[recipe.streams.modalities]
    model, _ = fit_recipe(recipe, train, seed=0)
    predicted = model.posterior(test).probabilities.argmax(1)
    accuracy = (predicted == [sample.emotion for sample in test.samples]).mean()
    assert accuracy > (0.4 if name in ALONE else 0.6), accuracy
