"""All keys of a store in one file, which a `FeatureStore` reads as it reads the folder."""

from collections.abc import Iterator
from pathlib import Path

from ..errors import MissingFeatures, StoreError
from ._commit import writing
from ._writer import FileLayout, KeyContent
from .store import Features, FeatureStore


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
    layout = FileLayout({key: _part(store, key) for key in store.keys()})
    with writing(out.parent, layout.size):
        if layout.write(out) == "already":
            raise StoreError(f"{out} exists; merge writes a new file")


def _part(store: FeatureStore, key: str) -> KeyContent:
    rows = sorted(store.rows(key).items())
    return KeyContent(
        store.specification(key), [(row, _read(store, key, clip) if row.code == "ok" else None) for clip, row in rows]
    )


def _read(store: FeatureStore, key: str, clip: str) -> Iterator[Features]:
    features = store.read(key, clip)
    assert features is not None
    yield features
