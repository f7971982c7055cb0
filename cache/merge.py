"""All keys of a store in one file, which a `FeatureStore` reads as it reads the folder."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EnvironmentFailure, MissingFeatures, StoreError
from ._commit import commit, spare_name
from ._shard import BLOCK, Features, block, index_line
from .store import FeatureStore

BUFFER = 16 << 20


def merge(store: FeatureStore, out: str | Path) -> None:
    """Write every key of a store into one file, a few megabytes in memory at a time.

    Parameters
    ----------
    store : FeatureStore
    out : str or Path
        Must not exist.

    Raises
    ------
    MissingFeatures
        The store is empty.
    StoreError
        The file exists, or a shard is damaged.
    EnvironmentFailure
        Disk full, or no atomic commit on that file system.
    """
    out = Path(out)
    if out.exists():
        raise StoreError(f"{out} exists; merge writes a new file")
    if not store.keys():
        raise MissingFeatures(f"{store.path} holds no features; run `affuse extract` first")
    spare = spare_name(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        start, length = _fill(store, spare)
        _seal(spare, start, length)
        if commit(spare, out) == "already":
            raise StoreError(f"{out} exists; merge writes a new file")
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            spare.unlink()


def _fill(store: FeatureStore, spare: Path) -> tuple[int, int]:
    import h5py

    index: dict[str, Any] = {}
    with h5py.File(spare, "w", userblock_size=BLOCK) as file:
        for key in store.keys():
            index[key] = _add(file.create_group(key), store, key)
        text = np.frombuffer(json.dumps(index, sort_keys=True, allow_nan=False).encode(), np.uint8)
        dataset = file.create_dataset("index", data=text)
        file.flush()
        return dataset.id.get_offset() - BLOCK, len(text)


def _add(group: Any, store: FeatureStore, key: str) -> dict[str, Any]:
    rows = store.rows(key)
    specification = store.specification(key)
    names = sorted(rows)
    total = sum(rows[name].n_frames for name in names if rows[name].code == "ok")
    first = store.tables(key)[0]
    shapes = {"values": ((total, *first.values.shape[1:]), first.values.dtype),
              "times": ((total,), np.dtype(np.float32))}  # fmt: skip
    sets = {
        name: group.create_dataset(name, shape, dtype) for name, (shape, dtype) in shapes.items()
    }
    offsets = [0]
    for features in _gathered(store, key, names, offsets):
        n = len(features.times)
        end = offsets[-1]
        sets["values"][end - n : end] = features.values
        sets["times"][end - n : end] = features.times
    sets["offsets"] = group.create_dataset("offsets", data=np.array(offsets, np.int64))
    group.file.flush()
    places = {
        name: {"offset": dataset.id.get_offset() - BLOCK if dataset.size else 0,
               "shape": list(dataset.shape), "dtype": str(dataset.dtype)}
        for name, dataset in sets.items()
    }  # fmt: skip
    return {"specification": specification, "rows": [asdict(rows[n]) for n in names],
            "arrays": places}  # fmt: skip


def _gathered(
    store: FeatureStore, key: str, names: list[str], offsets: list[int]
) -> Iterator[Features]:
    """Walk the clips' features in pieces of some megabytes, filling `offsets`."""
    pending: list[Features] = []
    size = 0
    for name in names:
        features = store.read(key, name)
        offsets.append(offsets[-1] + (0 if features is None else len(features.values)))
        if features is not None:
            pending.append(features)
            size += features.values.nbytes
        if size > BUFFER:
            yield _together(pending)
            pending, size = [], 0
    if pending:
        yield _together(pending)


def _together(pending: list[Features]) -> Features:
    return Features(
        np.concatenate([f.values for f in pending]), np.concatenate([f.times for f in pending])
    )


def _seal(spare: Path, start: int, length: int) -> None:
    with spare.open("r+b") as file:
        file.seek(BLOCK + start)
        place = index_line(file.read(length), start)
        digest = hashlib.blake2b(place, digest_size=32)
        file.seek(BLOCK)
        while piece := file.read(1 << 20):
            digest.update(piece)
        file.seek(0)
        file.write(block(digest.hexdigest().encode(), place))
        file.flush()
        os.fsync(file.fileno())
