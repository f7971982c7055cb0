"""The file that any tool can write, and what is wrong with those that do not fit."""

import numpy as np
import pytest

from affuse.errors import PosteriorMismatch
from affuse.posteriors.posterior import Posterior, softmax


@pytest.fixture
def posterior():
    rows = np.array([[0.7, 0.3], [0.1, 0.9], [np.nan, np.nan]])
    return Posterior(("001", "b", "c"), ("happy", "sad"), rows, {"valence": np.array([1, -1, np.nan])})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_is_written_is_read(tmp_path, posterior, ending):
    posterior.write(tmp_path / f"p.{ending}")
    found = Posterior.read(tmp_path / f"p.{ending}")
    assert found.ids == posterior.ids and found.emotions == posterior.emotions
    np.testing.assert_allclose(found.probabilities, posterior.probabilities)
    np.testing.assert_allclose(found.dimensions["valence"], posterior.dimensions["valence"])


def test_columns_of_another_tool_in_another_order(tmp_path):
    (tmp_path / "p.csv").write_text("sad,valence,id,happy\n0.25,-1,x,0.75\n")
    found = Posterior.read(tmp_path / "p.csv").ordered(("happy", "sad"))
    assert found.probabilities.tolist() == [[0.75, 0.25]]
    assert found.dimensions["valence"].tolist() == [-1]


def test_logits_are_said_to_be_logits(tmp_path):
    (tmp_path / "p.csv").write_text("id,happy,sad\nx,3,1\n")
    with pytest.raises(PosteriorMismatch, match="--logits"):
        Posterior.read(tmp_path / "p.csv")
    found = Posterior.read(tmp_path / "p.csv", logits=True)
    np.testing.assert_allclose(found.probabilities, [softmax(np.array([3.0, 1.0]))])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,happy\nx,1\n", "Expected 'id'"),
        ("id,happy,sad\nx,1,0\nx,0,1\n", "more than one row for x"),
        ("id,happy,sad\nx,0.9,0.9\n", "do not sum to one"),
        ("id,happy,sad\nx,one,0\n", "column 'happy'"),
        ("id,happy,sad\nx,1\n", "column 'sad'"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_what_is_wrong(tmp_path, text, says):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(PosteriorMismatch, match=says):
        Posterior.read(tmp_path / "p.csv")


def test_clips_and_emotions_that_are_not_there_are_named(posterior):
    with pytest.raises(PosteriorMismatch, match="nobody"):
        posterior.at(["b", "nobody"])
    with pytest.raises(PosteriorMismatch, match="fear"):
        posterior.ordered(("happy", "fear"))
    assert posterior.predicted().tolist() == [0, 1, -1]


def test_a_manifest_given_as_a_posterior_is_recognised(tmp_path):
    (tmp_path / "clips.csv").write_text("id,video,speaker\nc1,c1.mp4,s1\n")
    with pytest.raises(PosteriorMismatch, match="looks like a manifest: .*'video'"):
        Posterior.read(tmp_path / "clips.csv")
    (tmp_path / "answers.csv").write_text("id,happy\nc1,much\n")
    with pytest.raises(PosteriorMismatch, match="column 'happy'"):
        Posterior.read(tmp_path / "answers.csv")


def test_a_dimension_is_an_answer_too():
    rows = np.array([[0.5, 0.5], [np.nan, np.nan], [np.nan, np.nan]])
    found = Posterior(("a", "b", "c"), ("x", "y"), rows, {"valence": np.array([np.nan, 0, np.nan])})
    assert found.has_prediction().tolist() == [True, True, False]
    nothing = Posterior(("a",), (), np.zeros((1, 0)))
    assert nothing.has_prediction().tolist() == [False]
