"""Features for other tools: packed arrays, a file a clip, or a table."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import MissingFeatures, StoreError
from ._reader import Features
from .store import FeatureStore


def export(store: FeatureStore, key: str, out: str | Path, *, form: str) -> int:
    """Write a key's features; clips without features are left out.

    Parameters
    ----------
    store : FeatureStore
    key : str
    out : str or Path
        A file; for ``npy`` a folder.
    form : str
        ``npz``: frames, lengths, ids, times, as `import_features` reads them; ``npy``: an array a
        clip, as MERTools reads them; ``parquet``: a row a frame.

    Returns
    -------
    int
        Clips written.

    Raises
    ------
    StoreError
        The place is taken.
    """
    out = Path(out)
    if out.exists():
        raise StoreError(f"{out} exists; export writes a new {'folder' if form == 'npy' else 'file'}")
    out.parent.mkdir(parents=True, exist_ok=True)
    clips = list(_clips(store, key))
    if not clips:
        raise MissingFeatures(f"{store.path} holds no clip with features {key!r}")
    if form == "npy":
        for name, features in clips:
            place = out / f"{name}.npy"
            if not place.resolve().is_relative_to(out.resolve()):
                raise StoreError(f"clip {name!r} would be written outside {out}")
            place.parent.mkdir(parents=True, exist_ok=True)
            np.save(place, features.values)
    elif form == "npz":
        rows = store.rows(key)
        seconds = [rows[name].duration for name, _ in clips]
        np.savez(
            out,
            frames=np.concatenate([f.values for _, f in clips]),
            times=np.concatenate([f.times for _, f in clips]),
            lengths=np.array([len(f.values) for _, f in clips]),
            ids=np.array([name for name, _ in clips]),
            duration=np.array([np.nan if s is None else s for s in seconds]),
        )
    else:
        _parquet(clips, out)
    return len(clips)


def _clips(store: FeatureStore, key: str) -> Iterator[tuple[str, Features]]:
    for name in sorted(store.rows(key)):
        features = store.read(key, name)
        if features is not None:
            yield name, features


def _parquet(clips: list[tuple[str, Features]], out: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    width = int(np.prod(clips[0][1].values.shape[1:]))
    numbers = pyarrow.from_numpy_dtype(clips[0][1].values.dtype)
    schema = pyarrow.schema(
        [("id", pyarrow.string()), ("time", pyarrow.float32()), ("values", pyarrow.list_(numbers, width))]
    )
    with pyarrow.parquet.ParquetWriter(out, schema) as writer:
        for name, features in clips:
            flat = pyarrow.array(np.ascontiguousarray(features.values).reshape(-1))
            columns = [
                pyarrow.array([name] * len(features.times)),
                pyarrow.array(np.array(features.times)),
                pyarrow.FixedSizeListArray.from_arrays(flat, width),
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
