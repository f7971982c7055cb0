"""Recipes: every one there is reads, strangers' are refused with every fault, writing keeps all."""

import pytest

from affuse.errors import RecipeError, UnknownName
from affuse.recipes.recipe import Recipe, names


@pytest.mark.parametrize("name", names())
def test_recipes_read_and_are_the_same_after_writing(name, tmp_path):
    recipe = Recipe.read(name)
    recipe.write(tmp_path / f"{name}.toml")
    assert Recipe.read(tmp_path / f"{name}.toml") == recipe
    assert recipe.about


def test_all_faults_are_told_at_once_with_the_nearest_right_key(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        "[training]\nepoch = 3\nbatch = 0\nlearning_rate = 'fast'\nema = 1.0\n"
        "[targets]\ndimensions = ['valance']\n[fusion]\nname = 'afg'\nwidht = 3\n"
        "[heads]\nname = 'joint'\n"
    )
    with pytest.raises(RecipeError) as caught:
        Recipe.read(path)
    told = str(caught.value)
    assert "[training] takes no 'epoch'; did you mean 'epochs'?" in told
    assert "training.batch = 0; wanted at least 1" in told
    assert 'training.learning_rate = "fast"; wanted a number' in told
    assert "training.ema = 1.0; wanted a share" in told
    assert "targets.dimensions" in told and "valence" in told
    assert "afg takes no 'widht'; did you mean 'width'?" in told
    assert "unknown section 'heads'; did you mean 'head'?" in told


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("training.epochs=many", "wanted a whole number"),
        ("training.epochs=true", "wanted a whole number"),
        ("training.epoch=3", "did you mean 'epochs'"),
        ("epochs=3", "wanted section.key=value"),
        ("training.schedule=square", "one of cosine, constant"),
        ("streams.layers=blend", "wanted one of mix or a whole number"),
        ("training.folds=1", "at least 2"),
    ],
)
def test_wrong_overrides_are_answered(item, words):
    with pytest.raises(RecipeError, match=words):
        Recipe.read("mer2023-afg-a", override=[item])


def test_overrides_reach_every_member():
    recipe = Recipe.read("mer2023", override=["training.epochs=2", "streams.layers=-1"])
    assert [member.training.epochs for member in recipe.members] == [2, 2, 2]
    assert {member.streams.layers for member in recipe.members} == {-1}


def test_an_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'mer2023-afg-a'"):
        Recipe.read("mer2023-agf-a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("members = []", "wanted a list"),
        ("members = ['concat']\n[training]\nepochs = 3", "'training' does not go with"),
        ("members = ['concat', 'concat']", "same name"),
        ("[targets]\nemotion = false\ndimensions = []\n[head]\nname = 'joint'", "nothing is left"),
        ("[training", "not TOML"),
        ("", r"\[head\] wants at least a name"),
    ],
)
def test_what_makes_no_recipe_is_refused(text, words, tmp_path):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(RecipeError, match=words):
        Recipe.read(tmp_path / "mine.toml")


def test_a_fault_names_whose_it_is(tmp_path):
    with pytest.raises(RecipeError, match=r"^--set: \[training\] takes no 'epoch'"):
        Recipe.read("jca", override=["training.epoch=3"])
    path = tmp_path / "mine.toml"
    path.write_text('[head]\nname = "joint"\n[training]\nepoch = 3\n')
    with pytest.raises(RecipeError, match=r"mine.toml: \[training\] takes no 'epoch'"):
        Recipe.read(path, override=["training.batch=8"])


def test_members_of_members_are_refused(tmp_path):
    (tmp_path / "outer.toml").write_text('members = ["mer2023", "concat"]\n')
    with pytest.raises(RecipeError, match="mer2023 has members itself; list those"):
        Recipe.read(tmp_path / "outer.toml")
