"""Maintenance of a feature store: status, verification and removal of unused rows."""

import hashlib
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import StoreError
from ..manifest import Manifest
from ._reader import Features, Row, Shard
from .store import FeatureStore, fingerprint

ABANDONED_AFTER = 3600.0
"""Seconds after which an unfinished file counts as abandoned by its writer."""


class KeyStatus(NamedTuple):
    """Content of a store under one key.

    Attributes
    ----------
    key, modality : str
        Key of the features and the modality that they describe.
    dim : int
        Length of a feature vector.
    rate : float or None
        Feature vectors per second, where it is constant.
    clips, failed : int
        Number of clips with features, and of clips whose extraction failed.
    frames : int
        Number of feature vectors.
    shards : int
        Number of files.
    bytes : int
        Size of the feature vectors; times and rows are small beside them.
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


def store_status(store: FeatureStore) -> list[KeyStatus]:
    """Return what a store holds, one entry per key.

    Raises
    ------
    StoreError
        The store does not exist, or an index is damaged.
    """
    _check_exists(store)
    found = []
    for key in store.keys():
        rows = {row["id"]: row for row in store.all_rows(key)}
        good = [row for row in rows.values() if row["code"] == "ok"]
        specification = store.specification(key)
        dim, frames = int(specification["dim"]), sum(int(row["n_frames"]) for row in good)
        vector_length = dim * int(specification.get("n_layers") or 1)
        found.append(
            KeyStatus(
                key=key,
                modality=str(specification["modality"]),
                dim=dim,
                rate=specification.get("rate"),
                clips=len(good),
                failed=len(rows) - len(good),
                frames=frames,
                shards=len(store.shard_paths(key)),
                bytes=frames * vector_length * np.dtype(specification.get("dtype", "float16")).itemsize,
            )
        )
    return found


def verify_store(store: FeatureStore) -> list[str]:
    """Check digest, index and bounds of every shard; return one message per damaged shard.

    Raises
    ------
    StoreError
        The store does not exist or is empty.
    """
    _check_exists(store)
    if not store.keys():
        raise StoreError(f"{store.path} holds no features. Expected a folder that `affuse extract` wrote.")
    faults = []
    for path in sorted({path for key in store.keys() for path in store.shard_paths(key)}):
        try:
            shard = Shard(path)
            for key in shard.index:
                shard.table(key)
            if store.path.is_dir() and list(shard.index) != [path.parent.name]:
                keys = ", ".join(shard.index)
                faults.append(f"{path} holds {keys}, so it was moved here. Move it back or remove it.")
        except StoreError as error:
            faults.append(str(error))
    return faults


def _check_exists(store: FeatureStore) -> None:
    if not store.path.exists():
        raise StoreError(f"{store.path} does not exist. Expected a folder that `affuse extract` wrote.")


class Collected(NamedTuple):
    """Numbers of removed rows, of shards removed or rewritten, of unfinished files, and bytes freed."""

    rows: int
    shards: int
    unfinished: int
    bytes: int


def collect_garbage(
    store: FeatureStore, *, manifest: Manifest | None = None, failed: bool = False, dry_run: bool = False
) -> Collected:
    """Remove duplicate and outdated rows, and files that were never finished.

    Parameters
    ----------
    store : FeatureStore
        Store to clean; a folder, not a merged file.
    manifest : Manifest or None
        Clips whose media is compared with the features: features of earlier versions of the media
        are removed. Clips that are not listed and imported features stay.
    failed : bool
        Whether rows of failed clips are removed as well, so that the next extraction tries them again.
    dry_run : bool
        Whether to count only, without removing anything.

    Raises
    ------
    StoreError
        The store does not exist, is a merged file, or holds a damaged shard.
    """
    _check_exists(store)
    if store.path.is_file():
        raise StoreError(f"{store.path} is a merged file. Clean the folder that it was merged from and merge again.")
    current = {clip.id: fingerprint(clip)[1] for clip in manifest or ()}
    n_rows = n_shards = n_bytes = 0
    for key in store.keys():
        seen: set[tuple[str, str]] = set()
        for path in store.shard_paths(key):
            table = Shard(path).table(key)
            kept = []
            for index, row in enumerate(table.rows):
                identity = (row.id, row.fingerprint)
                outdated = row.fingerprint not in ("", current.get(row.id, row.fingerprint))
                if not (outdated or identity in seen or (failed and row.code != "ok")):
                    kept.append((row, table.features(index)))
                    seen.add(identity)
            if len(kept) < len(table.rows):
                n_rows, n_shards = n_rows + len(table.rows) - len(kept), n_shards + 1
                n_bytes += 0 if dry_run else _replace(store, key, path, kept)
    unfinished = [p for p in store.path.rglob(".*.tmp") if time.time() - p.stat().st_mtime > ABANDONED_AFTER]
    for path in unfinished if not dry_run else ():
        n_bytes += path.stat().st_size
        path.unlink()
    return Collected(n_rows, n_shards, len(unfinished), n_bytes)


def _replace(store: FeatureStore, key: str, path: Path, kept: list[tuple[Row, Features | None]]) -> int:
    """Write the rows that are kept to a new shard, then remove the old one; return the bytes freed."""
    freed = path.stat().st_size
    if kept:
        text = "\0".join(word for row, _ in kept for word in (key, row.id, row.fingerprint))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        name = f"{path.stem.partition('-')[0]}-{digest}"
        store.write(key, name, store.specification(key), kept)
        freed -= (path.parent / f"{name}.h5").stat().st_size
    path.unlink()
    return freed
