"""Reading and writing recipes: every recipe is readable, and one message names all problems of a file."""

import pytest

from affuse.errors import RecipeError, UnknownName
from affuse.recipes.recipe import Recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_the_same_after_writing_and_reading(name, tmp_path):
    recipe = Recipe.read(name)
    recipe.write(tmp_path / f"{name}.toml")
    assert Recipe.read(tmp_path / f"{name}.toml") == recipe
    assert recipe.about


def test_one_message_names_all_problems_and_the_nearest_known_keys(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        "[training]\nepoch = 3\nbatch = 0\nlearning_rate = 'fast'\nema = 1.0\nselect = 'wuf'\n"
        "[targets]\ndimensions = ['valance']\n[fusion]\nname = 'afg'\nwidht = 3\nhidden = 0.5\n"
        "[heads]\nname = 'joint'\n[windows]\nlength = 0\n[augmentation]\nflip = 2.0\n"
    )
    with pytest.raises(RecipeError) as caught:
        Recipe.read(path)
    message = str(caught.value)
    assert "[training] has no key 'epoch'; did you mean 'epochs'?" in message
    assert "Found training.batch = 0, expected at least 1." in message
    assert 'Found training.learning_rate = "fast", expected a number.' in message
    assert "Found training.ema = 1.0, expected a share from 0 to below 1." in message
    assert "training.select names no metric: 'wuf'; did you mean 'waf'?" in message
    assert 'Found targets.dimensions = ["valance"], expected one of valence, arousal.' in message
    assert "[fusion] afg has no option 'widht'; did you mean 'width'?" in message
    assert "Found fusion.hidden = 0.5, expected a whole number." in message
    assert "Unknown section 'heads'; did you mean 'head'?" in message
    assert "Found windows.length = 0, expected more than 0." in message
    assert "Found augmentation.flip = 2.0, expected a share from 0 to 1." in message
    assert all(line.startswith(f"{path}: ") for line in message.splitlines())


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("training.epochs=many", "expected a whole number"),
        ("training.epochs=true", "expected a whole number"),
        ("training.epoch=3", "did you mean 'epochs'"),
        ("epochs=3", "expected section.key=value"),
        ("training.epochs.more=3", "'epochs' is a value, not a section"),
        ("training.schedule=square", "expected one of cosine, constant"),
        ("streams.layers=blend", "expected one of mix or a whole number"),
        ("training.folds=1", "expected at least 2"),
    ],
)
def test_a_wrong_override_is_rejected(item, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.read("mer2023-afg-a", override=["training.epochs=20", item])


def test_overrides_apply_to_every_member():
    recipe = Recipe.read("mer2023", override=["training.epochs=2", "streams.layers=-1"])
    assert [member.training.epochs for member in recipe.members] == [2, 2, 2]
    assert {member.streams.layers for member in recipe.members} == {-1}


def test_an_unknown_recipe_is_rejected_with_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'mer2023-afg-a'"):
        Recipe.read("mer2023-agf-a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("members = []", "expected a list of recipes"),
        ("members = ['concat']\n[training]\nepochs = 3", "'training' cannot be combined with 'members'"),
        ("members = ['concat', 'concat']", "two members have the same name"),
        ("members = ['mer2023', 'concat']", "mer2023 has members itself. List these instead"),
        ("[targets]\nemotion = false\ndimensions = []\n[head]\nname = 'joint'", "neither emotion nor dimensions"),
        ("[training", "is not a TOML file"),
        ("", r"\[head\] needs a name"),
    ],
)
def test_an_incomplete_recipe_is_rejected(text, message, tmp_path):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        Recipe.read(tmp_path / "mine.toml")


def test_a_message_says_whether_the_file_or_an_override_is_wrong(tmp_path):
    with pytest.raises(RecipeError, match=r"^--set: \[training\] has no key 'epoch'"):
        Recipe.read("jca", override=["training.epoch=3"])
    path = tmp_path / "mine.toml"
    path.write_text('[head]\nname = "joint"\n[training]\nepoch = 3\n')
    with pytest.raises(RecipeError, match=r"mine.toml: \[training\] has no key 'epoch'"):
        Recipe.read(path, override=["training.batch=8"])
