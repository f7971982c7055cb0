"""Posterior files and tables, and errors about files that do not fit."""

import numpy as np
import pytest

from affuse.errors import PosteriorError, PosteriorMismatch
from affuse.posteriors.posterior import Posterior, concatenate, softmax


@pytest.fixture
def posterior():
    rows = np.array([[0.7, 0.3], [0.1, 0.9], [np.nan, np.nan]])
    return Posterior(("001", "b", "c"), ("happy", "sad"), rows, {"valence": np.array([1, -1, np.nan])})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_posterior_is_read_as_it_was_written(tmp_path, posterior, ending):
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


def test_logits_must_be_declared(tmp_path):
    (tmp_path / "p.csv").write_text("id,happy,sad\nx,3,1\n")
    with pytest.raises(PosteriorMismatch, match="--logits"):
        Posterior.read(tmp_path / "p.csv")
    found = Posterior.read(tmp_path / "p.csv", logits=True)
    np.testing.assert_allclose(found.probabilities, [softmax(np.array([3.0, 1.0]))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,happy\nx,1\n", "Expected 'id'"),
        ("id,happy,sad\nx,1,0\nx,0,1\n", "more than one row for x"),
        ("id,happy,sad\nx,0.9,0.9\n", "do not sum to one"),
        ("id,happy,sad\nx,one,0\n", "column 'happy'"),
        ("id,happy,sad\nx,1\n", "column 'sad'"),
    ],
)
def test_the_error_names_the_file_and_the_fault(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(PosteriorMismatch, match=message):
        Posterior.read(tmp_path / "p.csv")


def test_missing_clips_and_emotions_are_named(posterior):
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


def test_a_dimension_is_a_prediction_too():
    rows = np.array([[0.5, 0.5], [np.nan, np.nan], [np.nan, np.nan]])
    found = Posterior(("a", "b", "c"), ("x", "y"), rows, {"valence": np.array([np.nan, 0, np.nan])})
    assert found.has_prediction().tolist() == [True, True, False]
    nothing = Posterior(("a",), (), np.zeros((1, 0)))
    assert nothing.has_prediction().tolist() == [False]


def test_a_missing_file_is_not_a_mismatch(tmp_path):
    with pytest.raises(PosteriorError, match="does not exist. Expected a posterior") as raised:
        Posterior.read(tmp_path / "nowhere.csv")
    assert not isinstance(raised.value, PosteriorMismatch)


def test_pandas_tables_hold_the_columns_of_the_file(posterior, tmp_path):
    table = posterior.to_pandas()
    assert table.index.name == "id" and list(table.columns) == ["happy", "sad", "dimension:valence"]
    assert table.loc["b", "sad"] == 0.9 and np.isnan(table.loc["c", "happy"])
    for same in (table, table.reset_index()):
        found = Posterior.from_pandas(same)
        assert (found.ids, found.emotions) == (posterior.ids, posterior.emotions)
        np.testing.assert_array_equal(found.probabilities, posterior.probabilities)
        np.testing.assert_array_equal(found.dimensions["valence"], posterior.dimensions["valence"])
    with pytest.raises(PosteriorMismatch, match="do not sum to one"):
        Posterior.from_pandas(table * 2)


def test_reindexing_marks_missing_clips_and_parts_are_concatenated_by_name(posterior):
    found = posterior.reindexed(["b", "new"])
    assert found.ids == ("b", "new") and found.has_prediction().tolist() == [True, False]
    other = Posterior(("d",), ("sad", "happy"), np.array([[0.2, 0.8]]))
    whole = concatenate([posterior, other])
    assert whole.ids == ("001", "b", "c", "d") and whole.probabilities[3].tolist() == [0.8, 0.2]
    assert np.isnan(whole.dimensions["valence"][2:]).all()
