"""Export of features for other tools: packed arrays, one file per clip, or a table."""

from pathlib import Path

import numpy as np

from ..errors import MissingFeatures, StoreError, check_known
from ._reader import Features
from .store import FeatureStore

FORMATS = ("npz", "npy", "parquet")


def export_features(store: FeatureStore, key: str, out: str | Path, *, format: str = "npz") -> int:
    """Write the features of one key for another tool; clips without features are left out.

    Parameters
    ----------
    store : FeatureStore
        Store to read.
    key : str
        Key of the features, or the beginning of exactly one key.
    out : str or Path
        File to write, or folder for ``npy``; it must not exist.
    format : str
        ``npz`` writes the packed arrays ``frames``, ``times``, ``lengths``, ``ids`` and
        ``duration``, as `import_features` reads them; ``npy`` one array per clip, as MERTools reads
        them; ``parquet`` a table with one row per frame.

    Returns
    -------
    int
        Number of clips written.

    Raises
    ------
    MissingFeatures
        The store does not hold the key, or no clip of it has features.
    StoreError
        The file or folder exists.
    """
    check_known("format", format, FORMATS)
    key, out = store.find_key(key), Path(out)
    if out.exists():
        kind = "folder" if format == "npy" else "file"
        raise StoreError(f"{out} exists, and export does not overwrite. Choose another {kind}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = store.rows(key)
    clips = [(name, features) for name in sorted(rows) if (features := store.read(key, name)) is not None]
    if not clips:
        raise MissingFeatures(f"{store.path} holds no clip with features {key!r}; extraction failed for all of them.")
    if format == "npy":
        _write_npy(clips, out)
    elif format == "npz":
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
        _write_parquet(clips, out)
    return len(clips)


def _write_npy(clips: list[tuple[str, Features]], folder: Path) -> None:
    for name, features in clips:
        path = folder / f"{name}.npy"
        if not path.resolve().is_relative_to(folder.resolve()):
            raise StoreError(f"Clip {name!r} would be written outside {folder}. Export as npz or parquet.")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, features.values)


def _write_parquet(clips: list[tuple[str, Features]], out: Path) -> None:
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
