"""Systems are opened from files and from the folders of runs."""

import numpy as np
import pytest

from affuse.errors import PosteriorError, PosteriorMismatch
from affuse.posteriors.posterior import Posterior
from affuse.posteriors.provenance import Provenance
from affuse.posteriors.run_folder import RunFolder
from affuse.posteriors.systems import System, open_systems

EMOTIONS = ("happy", "sad")


def posterior(*ids):
    return Posterior(ids, EMOTIONS, np.tile([0.25, 0.75], (len(ids), 1)))


def test_a_file_is_opened_with_its_provenance(tmp_path):
    path = tmp_path / "combined.csv"
    posterior("a").write(path)
    Provenance("by hand", fitted_on=["b"]).write(path)
    found = System.open(path)
    assert (found.name, found.posterior.ids, found.folder) == ("combined", ("a",), None)
    assert found.provenance.fitted_on == ["b"]


def test_a_run_is_opened_with_its_seeds_and_its_test_clips_last(tmp_path):
    folder = RunFolder(tmp_path / "afg")
    for path, ids in {folder.out_of_fold: "ab", folder.test: "c", folder.seed_posterior(0): "ab"}.items():
        posterior(*ids).write(path)
    found = System.open(folder.path)
    assert (found.name, found.posterior.ids, len(found.seeds)) == ("afg", ("a", "b", "c"), 1)


def test_systems_have_distinct_names(tmp_path):
    paths = [tmp_path / "one" / "a.csv", tmp_path / "two" / "a.csv"]
    for path in paths:
        posterior("a").write(path)
    assert [s.name for s in open_systems(paths)] == [str(path) for path in paths]
    assert [s.name for s in open_systems(paths[:1] * 2)] == [f"{paths[0]} 1", f"{paths[0]} 2"]


def test_other_paths_are_refused(tmp_path):
    with pytest.raises(PosteriorMismatch, match="holds no posteriors"):
        System.open(tmp_path)
    with pytest.raises(PosteriorError, match="does not exist"):
        System.open(tmp_path / "nothing")
