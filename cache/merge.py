"""Merging of a store into one file, which `FeatureStore` reads like the folder."""

from collections.abc import Iterator
from pathlib import Path

from ..errors import MissingFeatures, StoreError
from ._commit import writing
from ._writer import FileLayout, KeyContent
from .store import Features, FeatureStore


def merge_store(store: FeatureStore, out: str | Path) -> Path:
    """Write all keys of a store into one file, using a few megabytes of memory.

    Parameters
    ----------
    store : FeatureStore
        Store to merge; it is left unchanged.
    out : str or Path
        File to write; it must not exist.

    Returns
    -------
    Path
        The file, to be opened with `FeatureStore`.

    Raises
    ------
    MissingFeatures
        The store is empty.
    StoreError
        The file exists, or a shard is damaged.
    EnvironmentFailure
        The disk is full, or the file system has no atomic commit.
    """
    out = Path(out)
    if not store.keys():
        raise MissingFeatures(f"{store.path} holds no features. Run `affuse extract` first.")
    if not out.exists():
        layout = FileLayout({key: _content(store, key) for key in store.keys()})
        with writing(out.parent, layout.size):
            if layout.write(out) == "written":
                return out
    raise StoreError(f"{out} exists, and merging does not overwrite. Choose another file.")


def _content(store: FeatureStore, key: str) -> KeyContent:
    rows = sorted(store.rows(key).items())
    return KeyContent(
        store.specification(key), [(row, _read(store, key, clip) if row.code == "ok" else None) for clip, row in rows]
    )


def _read(store: FeatureStore, key: str, clip: str) -> Iterator[Features]:
    """Read the features of a clip when they are written, not before."""
    features = store.read(key, clip)
    assert features is not None
    yield features
