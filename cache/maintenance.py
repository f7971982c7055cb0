"""Looking after a store: what there is, is it whole, what may go."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import StoreError
from ._reader import Features, Row, Shard, iter_features
from .store import FeatureStore

OLD = 3600.0
"""Seconds after which a file that was never finished belongs to nobody."""


class Status(NamedTuple):
    """One key of a store.

    Attributes
    ----------
    key, modality : str
    dim : int
    rate : float or None
    clips, failed : int
    frames : int
    shards : int
    bytes : int
        Of the feature vectors; their times and rows come to little beside them.
    """

    key: str
    modality: str
    dim: int
    rate: float | None
    clips: int
    failed: int
    frames: int
    shards: int
    bytes: int


def status(store: FeatureStore) -> list[Status]:
    """Return what a store holds, a line a key."""
    _check_there(store)
    found = []
    for key in store.keys():
        rows = {row["id"]: row for row in store.records(key)}
        good = [row for row in rows.values() if row["code"] == "ok"]
        about = store.specification(key)
        frames = sum(int(row["n_frames"]) for row in good)
        each = int(about["dim"]) * int(about.get("n_layers") or 1)
        found.append(
            Status(
                key=key,
                modality=str(about["modality"]),
                dim=int(about["dim"]),
                rate=about.get("rate"),
                clips=len(good),
                failed=len(rows) - len(good),
                frames=frames,
                shards=len(store.shards(key)),
                bytes=frames * each * np.dtype(about.get("dtype", "float16")).itemsize,
            )
        )
    return found


def verify(store: FeatureStore) -> list[str]:
    """Check every shard's digest, index and bounds; return what is wrong, a line a shard."""
    _check_there(store)
    if not store.keys():
        raise StoreError(f"{store.path} holds no features; wanted a folder that `affuse extract` made")
    faults = []
    for path in sorted({path for key in store.keys() for path in store.shards(key)}):
        try:
            shard = Shard(path)
            for key in shard.index:
                shard.table(key)
            if store.path.is_dir() and list(shard.index) != [path.parent.name]:
                faults.append(f"{path} holds {', '.join(shard.index)}; it was moved here")
        except StoreError as error:
            faults.append(str(error))
    return faults


def _check_there(store: FeatureStore) -> None:
    if not store.path.exists():
        raise StoreError(f"{store.path} is not there; wanted a folder that `affuse extract` made")


class Collected(NamedTuple):
    """What was let go: rows, shards removed or rewritten, unfinished files, and bytes."""

    rows: int
    shards: int
    unfinished: int
    bytes: int


def gc(
    store: FeatureStore, *, current: Mapping[str, str] | None = None, failed: bool = False, dry_run: bool = False
) -> Collected:
    """Drop rows that nothing reads, and files that were never finished.

    Parameters
    ----------
    store : FeatureStore
    current : mapping of str to str or None
        Fingerprints of clips as their media is now: rows of other media go. Clips that are not in
        it stay, and so do features from elsewhere.
    failed : bool
        Rows of failed clips go too, so that they are tried again.
    dry_run : bool
        Count only.

    Raises
    ------
    StoreError
        The store is not there or a merged file, or a shard is damaged.
    """
    _check_there(store)
    if store.path.is_file():
        raise StoreError(f"{store.path} is a merged file; wanted the folder it was made from")
    n_rows = n_shards = n_bytes = 0
    for key in store.keys():
        seen: set[tuple[str, str]] = set()
        for path in store.shards(key):
            rows = list(iter_features(Shard(path).table(key)))
            kept = []
            for row, features in rows:
                same = (row.id, row.fingerprint)
                stale = (
                    current is not None
                    and row.fingerprint != ""
                    and current.get(row.id, row.fingerprint) != row.fingerprint
                )
                if not (stale or same in seen or (failed and row.code != "ok")):
                    kept.append((row, features))
                    seen.add(same)
            if len(kept) < len(rows):
                n_rows, n_shards = n_rows + len(rows) - len(kept), n_shards + 1
                n_bytes += 0 if dry_run else _replace(store, key, path, kept)
    unfinished = [p for p in store.path.rglob(".*.tmp") if time.time() - p.stat().st_mtime > OLD]
    for path in unfinished if not dry_run else ():
        n_bytes += path.stat().st_size
        path.unlink()
    return Collected(n_rows, n_shards, len(unfinished), n_bytes)


def _replace(store: FeatureStore, key: str, path: Path, kept: list[tuple[Row, Features | None]]) -> int:
    """Write what is kept first, then remove the shard; return the bytes that were freed."""
    before = path.stat().st_size
    if kept:
        text = "\0".join(word for row, _ in kept for word in (key, row.id, row.fingerprint))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        name = f"{path.stem.partition('-')[0]}-{digest}"
        store.write(key, name, store.specification(key), kept)
        before -= (path.parent / f"{name}.h5").stat().st_size
    path.unlink()
    return before
