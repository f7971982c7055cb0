"""A feature store returns exactly the features that were written, or raises an error."""

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from affuse.cache._reader import BLOCK, first_block, index_line
from affuse.cache.export import export_features
from affuse.cache.importing import import_features
from affuse.cache.maintenance import collect_garbage, store_status, verify_store
from affuse.cache.merge import merge_store
from affuse.cache.store import Features, FeatureStore, Row, fingerprint
from affuse.errors import AffuseError, EnvironmentFailure, MissingFeatures, StoreError, UnknownName
from affuse.manifest import Clip, Manifest

ABOUT = {"name": "x", "modality": "audio", "dim": 3, "dtype": "float32", "rate": 2.0}


def row(name: str, n: int, seed: int = 0, mark: str = "a") -> tuple[Row, Features | None]:
    if n == 0:
        return Row(name, mark, code="unreadable", reason="no media"), None
    values = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    return Row(name, mark, n_frames=n), Features(values, (np.arange(n) + 0.5) / 2)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = FeatureStore(tmp_path / "store")
    store.write("x-1", "0", ABOUT, [row("a", 4, 1), row("b", 0), row("c", 1, 2)])
    store.write("x-1", "1", ABOUT, [row("d", 7, 3)])
    store.write(
        "y-2",
        "0",
        {**ABOUT, "n_layers": 2},
        [(Row("a", n_frames=2), Features(np.arange(12).reshape(2, 2, 3), np.array([0.0, 1])))],
    )
    return store


def everything(store: FeatureStore) -> dict[str, object]:
    return {
        f"{key} {name}": None if (f := store.read(key, name)) is None else (f.values.tolist(), f.times.tolist(), r)
        for key in store.keys()
        for name, r in store.rows(key).items()
    }


def test_features_are_read_as_they_were_written(store: FeatureStore) -> None:
    expected = row("d", 7, 3)[1]
    assert expected is not None
    found = FeatureStore(store.path).read("x-1", "d")
    np.testing.assert_array_equal(found.values, expected.values)
    assert store.read("x-1", "b") is None
    assert store.rows("x-1")["b"].code == "unreadable"
    assert store.read("y-2", "a").values.shape == (2, 2, 3)
    with pytest.raises(MissingFeatures, match="did you mean 'x-1'"):
        store.read("x-11", "a")
    with pytest.raises(MissingFeatures, match="Run `affuse extract`"):
        store.read("x-1", "z")


def test_features_of_a_clip_are_available_as_numpy_and_torch(store: FeatureStore) -> None:
    features = FeatureStore(str(store.path)).read("x-1", "d")
    assert features is not None
    assert isinstance(features.values, np.ndarray) and features.values.shape == (7, 3)
    values, times = features.to_torch()
    assert values.dtype == times.dtype == torch.float32
    np.testing.assert_array_equal(values.numpy(), features.values)
    values += 1  # the tensor owns its memory, so the read-only map of the file is untouched
    assert not np.array_equal(values.numpy(), features.values)


@pytest.mark.parametrize("merged", [False, True])
def test_a_store_lists_its_content_as_a_table(store: FeatureStore, tmp_path: Path, merged: bool) -> None:
    opened = FeatureStore(merge_store(store, tmp_path / "all.h5") if merged else store.path)
    table = opened.to_pandas()
    assert list(zip(table["key"], table["id"], table["code"], strict=True)) == [
        ("x-1", "a", "ok"),
        ("x-1", "b", "unreadable"),
        ("x-1", "c", "ok"),
        ("x-1", "d", "ok"),
        ("y-2", "a", "ok"),
    ]
    assert table["n_frames"].tolist() == [4, 0, 1, 7, 2] and table["reason"][1] == "no media"
    assert {"duration", "coverage", "face_share", "decode_errors", "fingerprint"} < set(table.columns)
    assert opened.to_pandas("y-2")["id"].tolist() == ["a"]


def test_a_store_tells_what_it_holds(store: FeatureStore, tmp_path: Path) -> None:
    assert list(store) == store.keys() == ["x-1", "y-2"] and len(store) == 2 and "x-1" in store
    assert repr(store) == f"<FeatureStore {store.path}: 2 keys (x-1, y-2)>"
    absent = FeatureStore(tmp_path / "none")
    assert absent.keys() == [] and "does not exist yet" in repr(absent) and not absent.path.exists()
    assert absent.to_pandas().empty and "code" in absent.to_pandas()


def test_a_shard_is_a_plain_hdf5_file(store: FeatureStore) -> None:
    with h5py.File(store.path / "x-1" / "0.h5") as file:
        group = file["x-1"]
        start, end = group["offsets"][0:2]
        np.testing.assert_array_equal(group["values"][start:end], store.read("x-1", "a").values)
        assert group["values"].chunks is None and group["values"].compression is None


def test_writing_never_overwrites_and_leaves_no_temporary_file(store: FeatureStore) -> None:
    path = store.path / "x-1" / "1.h5"
    before = path.read_bytes()
    assert store.write("x-1", "1", ABOUT, [row("other", 2)]) == "already"
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match="'a' are not finite"):
        values = np.full((1, 3), np.inf)
        store.write("x-1", "2", ABOUT, [(Row("a"), Features(values, np.zeros(1)))])
    with pytest.raises(StoreError, match=r"shape \(1, 4\)"):
        store.write("x-1", "2", ABOUT, [(Row("a"), Features(np.zeros((1, 4)), np.zeros(1)))])
    assert sorted(p.name for p in path.parent.iterdir()) == ["0.h5", "1.h5"]


def test_features_in_pieces_give_the_same_shard_as_whole_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affuse.cache._writer.MEMORY_LIMIT", 300)
    whole = {name: row(name, n, n) for name, n in (("long", 200), ("short", 5))}
    pieces = FeatureStore(tmp_path / "pieces")
    with pieces.spool() as spool:
        for i in range(0, 200, 10):
            for name, (_, features) in whole.items():
                piece = Features(*(array[i : i + 10] for array in features))
                if len(piece.values):
                    spool.put(name, piece)
        spooled = [spool.take(name) for name in whole]
        assert [each.n_frames for each in spooled] == [200, 5] and spool.take("long") is None
        rows = [(r, each) for (r, _), each in zip(whole.values(), spooled, strict=True)]
        pieces.write("x-1", "0", ABOUT, rows)
    FeatureStore(tmp_path / "whole").write("x-1", "0", ABOUT, list(whole.values()))
    written = [tmp_path / folder / "x-1" / "0.h5" for folder in ("pieces", "whole")]
    assert written[0].read_bytes() == written[1].read_bytes()
    assert [p.name for p in (tmp_path / "pieces").iterdir()] == ["x-1"]


def test_a_row_with_another_number_of_frames_is_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="'a' has 4 feature vectors but its row says 3"):
        store.write("x-1", "2", ABOUT, [(Row("a", n_frames=3), row("a", 4)[1])])


def test_merging_onto_a_full_disk_leaves_no_file(store: FeatureStore, small_disk: Path) -> None:
    rows = [row(str(i), 4000, i) for i in range(15)]
    store.write("x-1", "9", ABOUT, rows)
    with pytest.raises(EnvironmentFailure, match="No space left"):
        merge_store(store, small_disk / "all.h5")
    assert not list(small_disk.iterdir())


def test_a_merged_file_is_read_like_the_folder(store: FeatureStore, tmp_path: Path) -> None:
    merge_store(store, tmp_path / "all.h5")
    merged = FeatureStore(tmp_path / "all.h5")
    assert everything(merged) == everything(store)
    assert verify_store(merged) == [] == verify_store(store)
    for of_file, of_folder in zip(store_status(merged), store_status(store), strict=True):
        assert of_file._replace(shards=of_folder.shards) == of_folder
    with h5py.File(tmp_path / "all.h5") as file:
        assert set(file) == {"x-1", "y-2", "index"}
    with pytest.raises(StoreError, match="exists"):
        merge_store(store, tmp_path / "all.h5")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("merged", [False, True])
def test_a_mutated_shard_is_refused_or_unchanged(store: FeatureStore, tmp_path: Path, merged: bool) -> None:
    path = store.path / "x-1" / "0.h5"
    if merged:
        path = tmp_path / "all.h5"
        merge_store(store, path)
    truth = everything(FeatureStore(path if merged else store.path))
    raw = path.read_bytes()
    random = np.random.default_rng(0)
    for i in range(150):
        data = bytearray(raw)
        if i % 3 == 0:
            data = data[: random.integers(len(data))]
        else:
            reach = BLOCK if i % 3 == 1 else len(data)
            for place in random.integers(reach, size=random.integers(1, 9)):
                data[place] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        try:
            found = everything(FeatureStore(path if merged else store.path))
        except AffuseError as error:
            assert str(path) in str(error) or "holds no" in str(error)
        else:
            assert found == truth and bytes(data) == raw
    path.write_bytes(raw)
    assert everything(FeatureStore(path if merged else store.path)) == truth


def forged(index: object, body: bytes = b"") -> bytes:
    """Return a shard with correct digests and arbitrary content."""
    text = json.dumps(index).encode()
    place = index_line(text, len(body))
    digest = hashlib.blake2b(place + body + text, digest_size=32).hexdigest()
    return first_block(digest.encode(), place) + body + text


def test_hostile_shards_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 4096)
    rows = [{"id": "a", "n_frames": 1}]
    arrays = {
        "values": {"offset": 0, "shape": [1, 3], "dtype": "float32"},
        "times": {"offset": 0, "shape": [1], "dtype": "float32"},
        "offsets": {"offset": 0, "shape": [2], "dtype": "int64"},
    }
    zeros = np.array([0, 1], np.int64).tobytes()
    hostile = {
        "bomb": {**arrays, "values": {"offset": 0, "shape": [1 << 40, 3], "dtype": "float32"}},
        "behind": {**arrays, "values": {"offset": 10**6, "shape": [1, 3], "dtype": "float32"}},
        "before": {**arrays, "values": {"offset": -600, "shape": [1, 3], "dtype": "float32"}},
        "object": {**arrays, "values": {"offset": 0, "shape": [1, 3], "dtype": "object"}},
        "negative": {**arrays, "values": {"offset": 0, "shape": [-1, 3], "dtype": "float32"}},
        "missing": {"values": arrays["values"]},
    }
    for name, found in hostile.items():
        index = {"k": {"specification": ABOUT, "rows": rows, "arrays": found}}
        (tmp_path / name / "k").mkdir(parents=True)
        (tmp_path / name / "k" / "0.h5").write_bytes(forged(index, zeros))
        with pytest.raises(StoreError):
            FeatureStore(tmp_path / name).tables("k")
    for name, index in {"list": [], "deep": {"k": 3}, "other": {"z": {}}}.items():
        (tmp_path / name / "k").mkdir(parents=True)
        (tmp_path / name / "k" / "0.h5").write_bytes(forged(index))
        with pytest.raises(StoreError):
            FeatureStore(tmp_path / name).read("k", "a")


def test_external_links_of_an_hdf5_file_are_never_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"s" * 64)
    (tmp_path / "store" / "k").mkdir(parents=True)
    with h5py.File(tmp_path / "store" / "k" / "0.h5", "w") as file:
        file.create_dataset("values", (8,), "f8", external=[(str(secret), 0, 64)])
        file["link"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(StoreError, match="not a shard"):
        FeatureStore(tmp_path / "store").keys() and FeatureStore(tmp_path / "store").rows("k")


def test_garbage_collection_removes_outdated_duplicate_and_failed_rows(store: FeatureStore, tmp_path: Path) -> None:
    media = tmp_path / "a.wav"
    media.write_bytes(b"edited")
    edited = Manifest([Clip("a", audio=media)])
    current = fingerprint(edited[0])[1]
    store.write("x-1", "2", ABOUT, [row("a", 4, 9, mark=current), row("d", 7, 3), row("e", 0)])
    with pytest.raises(StoreError, match="two different media for clip 'a'"):
        store.rows("x-1")
    assert collect_garbage(FeatureStore(store.path), manifest=edited, dry_run=True).rows == 2
    assert collect_garbage(FeatureStore(store.path), manifest=edited).rows == 2
    after = FeatureStore(store.path)
    assert verify_store(after) == []
    assert after.rows("x-1")["a"].fingerprint == current
    assert sorted(after.rows("x-1")) == ["a", "b", "c", "d", "e"]
    np.testing.assert_array_equal(after.read("x-1", "d").values, row("d", 7, 3)[1].values)
    collect_garbage(FeatureStore(store.path), failed=True)
    assert sorted(FeatureStore(store.path).rows("x-1")) == ["a", "c", "d"]


def test_exported_features_can_be_imported_again(store: FeatureStore, tmp_path: Path) -> None:
    export_features(store, "x-1", tmp_path / "x.npz")
    export_features(store, "x-1", tmp_path / "x", format="npy")
    export_features(store, "x", tmp_path / "x.parquet", format="parquet")
    other = FeatureStore(tmp_path / "other")
    for path in (tmp_path / "x.npz", tmp_path / "x"):
        key = import_features(path, other, name=path.stem + path.suffix[1:], modality="audio")
        assert sorted(other.rows(key)) == ["a", "c", "d"]
        np.testing.assert_array_equal(other.read(key, "d").values, store.read("x-1", "d").values)
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(tmp_path / "x.parquet").num_rows == 12
    with pytest.raises(UnknownName, match="did you mean 'npz'"):
        export_features(store, "x-1", tmp_path / "z", format="npzz")


def test_a_file_system_without_hard_links_is_supported_or_refused(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_link)
    assert store.write("x-1", "7", ABOUT, [row("q", 2)]) == "written"
    place = store.path / "x-1" / "7.h5"
    digest = hashlib.sha256(place.read_bytes()).digest()
    monkeypatch.setattr(Path, "exists", lambda self: False)  # as a process sees it that lost the race
    assert store.write("x-1", "7", ABOUT, [row("q", 3)]) == "already"
    monkeypatch.undo()
    assert hashlib.sha256(place.read_bytes()).digest() == digest
    monkeypatch.setattr("os.link", no_link)
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    with pytest.raises(EnvironmentFailure, match="neither hard links nor"):
        store.write("x-1", "8", ABOUT, [row("q", 2)])
    assert not list(store.path.rglob("*.tmp"))
