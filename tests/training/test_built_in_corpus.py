"""Every recipe for clips learns the built-in corpus: people that it never met, as it is shipped."""

import pytest

from affuse.cache.store import FeatureStore
from affuse.corpora.demo import make
from affuse.engines._extraction import extract
from affuse.recipes.recipe import Recipe, names
from affuse.training.dataset import CachedDataset, choose_streams, gather
from affuse.training.learner import learn

RECIPES = {name: Recipe.read(name) for name in names()}
ON_CLIPS = [name for name, r in RECIPES.items() if not (r.members or r.windows or r.encoders)]
ALONE = ("audio-only", "visual-only")
LARGE = ("averformer", "avtca", "mult")
"""Learn it in ten epochs too, and are not given their forty."""
MET = 7


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], tuple[CachedDataset, ...]]:
    """Clips of seven people to learn from and of three others, by the modalities asked for."""
    folder = tmp_path_factory.mktemp("demo")
    manifest = make(folder, n_speakers=10, n_repetitions=2)
    store = FeatureStore(folder / "features")
    extract(manifest, ["logmel,kind=mfcc", "hog,fps=5"], store)
    people = sorted(manifest.speakers)[:MET]
    found = {}
    for modalities in {RECIPES[name].streams.modalities for name in ON_CLIPS}:
        streams = choose_streams(store, modalities=modalities)
        samples = gather(manifest, store, streams, emotions=manifest.emotions, dimensions=["valence"])
        met = [speaker in people for speaker in samples.speakers]
        found[modalities] = samples.where(met), samples.where([not m for m in met])
    return found


@pytest.mark.parametrize("name", ON_CLIPS)
def test_a_recipe_learns_the_built_in_corpus(
    name: str, parts: dict[tuple[str, ...], tuple[CachedDataset, ...]]
) -> None:
    """One stream confuses two pairs of six emotions, chance is a sixth."""
    recipe = Recipe.read(name, override=["training.epochs=10"] if name in LARGE else [])
    met, others = parts[recipe.streams.modalities]
    system, _ = learn(recipe, met, seed=0)
    chosen = system.posterior(others).probabilities.argmax(1)
    accuracy = (chosen == [sample.emotion for sample in others.samples]).mean()
    assert accuracy > (0.4 if name in ALONE else 0.6), accuracy
