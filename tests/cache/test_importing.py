"""Features of other tools are imported number for number, or refused with a reason."""

from pathlib import Path

import numpy as np
import pytest

from affuse.cache.importing import import_features
from affuse.cache.store import FeatureStore
from affuse.errors import StoreError


def test_a_folder_of_npy_files_is_imported(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    vector, sequence = np.arange(4.0), np.random.default_rng(0).normal(size=(7, 4))
    np.save(source / "b.npy", vector.astype(np.float32))
    np.save(source / "sub" / "a.npy", sequence)
    store = FeatureStore(tmp_path / "out")
    key = import_features(source, store, name="mine", modality="audio", rate=2)
    assert sorted(store.rows(key)) == ["b", "sub/a"]
    features = store.read(key, "sub/a")
    np.testing.assert_allclose(features.values, sequence, rtol=1e-6)
    np.testing.assert_allclose(features.times, [0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25])
    assert store.read(key, "b").values.tolist() == [vector.tolist()]
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.h5")}
    assert import_features(source, store, name="mine", modality="audio", rate=2) == key
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.h5")} == before


def test_unknown_times_are_nan_and_unusable_clips_are_recorded(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz",
        frames=np.array([[1.0, 2], [3, np.inf], [5, 6]], np.float32),
        lengths=[1, 1, 1],
        ids=["c", "a", "b"],
    )
    store = FeatureStore(tmp_path / "out")
    key = import_features(tmp_path / "x.npz", store, name="x", modality="visual")
    assert {i: r.code for i, r in store.rows(key).items()} == {"a": "not_finite", "b": "ok", "c": "ok"}
    assert store.read(key, "a") is None
    assert store.read(key, "c").values.tolist() == [[1, 2]]
    assert np.isnan(store.read(key, "c").times).all()


def test_objects_mixed_widths_and_repeated_ids_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    np.save(folder / "a.npy", np.array([{}], object), allow_pickle=True)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    np.save(mixed / "a.npy", np.zeros(3))
    np.save(mixed / "b.npy", np.zeros(4))
    twice = tmp_path / "twice.csv"
    twice.write_text("id,x\na,1\na,2\n")
    words = tmp_path / "words.csv"
    words.write_text("id,x\na,hello\n")
    for path, message in [
        (folder, "array of numbers"),
        (mixed, "'b' have 4 dimensions, those of the first clip 3"),
        (twice, "repeats ids: a"),
        (words, "line 2"),
        (tmp_path / "none", "does not exist"),
    ]:
        with pytest.raises(StoreError, match=message):
            import_features(path, FeatureStore(tmp_path / "o"), name="x", modality="audio")


def test_features_of_ravdess_are_imported_exactly(data: Path, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    folder = data / "ravdess" / "features"
    audio = import_features(folder / "audio_mn04.npz", store, name="mn04", modality="audio")
    units = folder / "visual_action_units.csv"
    visual = import_features(units, store, name="au", modality="visual")
    assert len(store.rows(audio)) == len(store.rows(visual)) == 1440
    with np.load(folder / "audio_mn04.npz") as file:
        start = int(file["lengths"][:5].sum())
        values = file["frames"][start : start + file["lengths"][5]]
        np.testing.assert_array_equal(store.read(audio, str(file["ids"][5])).values, values)
