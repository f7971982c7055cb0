"""Import of features that another tool extracted.

Three forms are read: a folder with one ``.npy`` file per clip (the layout of MERTools), an ``.npz``
file with packed frames, and a CSV with one row per clip. No form may contain Python objects.
"""

import csv
import hashlib
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import StoreError, listing
from ..plugins import check_modality
from .store import Features, FeatureStore, Row

CLIPS_PER_SHARD = 1024
KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ImportedFeatures(NamedTuple):
    """Features of one clip as found: values of shape (time, dim) and, where known, the duration in seconds."""

    id: str
    values: np.ndarray
    duration: float | None


def import_features(
    path: str | Path, store: FeatureStore, *, name: str, modality: str, rate: float | None = None
) -> str:
    """Copy features of another tool into a store.

    Parameters
    ----------
    path : str or Path
        One of three forms: a folder of ``<clip id>.npy``, each of shape (dim,) or (time, dim); an
        ``.npz`` file with ``frames`` of shape (all frames, dim), ``lengths`` and ``ids`` of shape
        (clips,) and, where known, ``duration`` of shape (clips,) in seconds; or a CSV with a column
        ``id`` and one column per feature.
    store : FeatureStore
        Store to write to.
    name : str
        Beginning of the key; letters, digits, ``.``, ``_`` and ``-``.
    modality : str
        One lower-case word, such as ``audio``, ``visual`` or ``text``.
    rate : float or None
        Feature vectors per second. Without it, the vectors are spread evenly over the duration of
        the clip; where the duration is unknown as well, times are nan.

    Returns
    -------
    str
        Key of the features: the name and a digest of the content. Importing the same features again
        changes nothing.

    Raises
    ------
    StoreError
        The features have another form, contain Python objects, repeat an id or differ in width.
    """
    path = Path(path)
    if not KEY_NAME.fullmatch(name):
        raise StoreError(f"{name!r} cannot begin a key. Use letters, digits, '.', '_' and '-' only.")
    check_modality(modality, StoreError)
    if rate is not None and not (rate > 0 and math.isfinite(rate)):
        raise StoreError(f"Found a rate of {rate} vectors per second; expected a number above 0.")
    clips = _read(path)
    first = next(clips, None)
    if first is None:
        raise StoreError(f"{path} holds no clip. Expected .npy files, or an .npz or CSV file with at least one clip.")
    dim = first.values.shape[1]
    digest = _content_digest(path, rate)
    specification = {
        "name": name,
        "modality": modality,
        "dim": dim,
        "rate": rate,
        "dtype": "float16" if first.values.dtype == np.float16 else "float32",
        "identity": {"imported": digest},
    }
    key = f"{name}-{digest[:12]}"
    rows = (_row(path, clip, dim, rate) for clip in chain([first], clips))
    for index, part in enumerate(iter(lambda: list(islice(rows, CLIPS_PER_SHARD)), [])):
        store.write(key, f"{index:05d}", specification, part)
    return key


def _read(path: Path) -> Iterator[ImportedFeatures]:
    if path.is_dir():
        return _read_folder(path)
    readers = {".npz": _read_packed, ".csv": _read_table}
    if not path.is_file() or path.suffix.lower() not in readers:
        found = "is no file of this kind" if path.exists() else "does not exist"
        raise StoreError(f"{path} {found}. Expected a folder of .npy files, an .npz file or a CSV file.")
    return readers[path.suffix.lower()](path)


def _content_digest(path: Path, rate: float | None) -> str:
    digest = hashlib.blake2b(str(rate).encode(), digest_size=16)
    for file in sorted(path.rglob("*.npy")) if path.is_dir() else [path]:
        digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _row(path: Path, clip: ImportedFeatures, dim: int, rate: float | None) -> tuple[Row, Features | None]:
    if clip.values.shape[1] != dim:
        raise StoreError(
            f"{path}: the features of clip {clip.id!r} have {clip.values.shape[1]} dimensions, those of the first "
            f"clip {dim}. Import features of different widths under different names."
        )
    n = len(clip.values)
    if n == 0 or not np.isfinite(clip.values).all():
        code = "not_finite" if n else "empty"
        return Row(clip.id, code=code, reason="the imported features cannot be used"), None
    duration = n / rate if rate and clip.duration is None else clip.duration
    step = 1 / rate if rate else math.nan if duration is None else duration / n
    times = (np.arange(n) + 0.5) * step
    return Row(clip.id, n_frames=n, duration=duration), Features(clip.values, times)


# -- forms ----------------------------------------------------------------------------------


def _read_folder(path: Path) -> Iterator[ImportedFeatures]:
    ids = {file.relative_to(path).with_suffix("").as_posix(): file for file in path.rglob("*.npy")}
    for name, file in sorted(ids.items()):
        try:
            values = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise StoreError(f"{file} cannot be read as an array of numbers: {error}") from None
        yield ImportedFeatures(name, _vectors(file, np.atleast_1d(values)), None)


def _read_packed(path: Path) -> Iterator[ImportedFeatures]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = {"frames", "lengths", "ids"} - set(file.files)
            if missing:
                raise StoreError(
                    f"{path} holds the arrays {listing(file.files)}, but not {listing(sorted(missing))}. "
                    "Expected frames, lengths and ids."
                )
            frames, lengths, ids = file["frames"], file["lengths"], file["ids"].astype(str)
            duration = file["duration"] if "duration" in file.files else None
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} cannot be read as arrays of numbers: {error}") from None
    clips = len(ids)
    consistent = (
        lengths.shape == ids.shape == (clips,)
        and lengths.dtype.kind in "iu"
        and bool((lengths >= 0).all())
        and int(lengths.sum()) == len(frames)
        and (duration is None or duration.shape == (clips,))
    )
    if not consistent:
        raise StoreError(
            f"{path} holds {len(frames)} frames, {clips} ids and lengths that sum to {lengths.sum()}. Expected one "
            "length per id and as many frames as the lengths sum to."
        )
    _check_unique(path, ids.tolist())
    starts = np.cumsum([0, *lengths.tolist()])
    frames = _vectors(path, frames)
    for i in np.argsort(ids, kind="stable"):
        values = frames[starts[i] : starts[i + 1]]
        seconds = math.nan if duration is None else float(duration[i])
        yield ImportedFeatures(str(ids[i]), values, None if math.isnan(seconds) else seconds)


def _read_table(path: Path) -> Iterator[ImportedFeatures]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if "id" not in header or len(header) < 2:
            raise StoreError(f"{path}, line 1: expected a column 'id' and one column per feature.")
        column = header.index("id")
        rows: list[tuple[str, list[float]]] = []
        for line, cells in enumerate(reader, start=2):
            try:
                rows.append((cells.pop(column), [float(cell or "nan") for cell in cells]))
            except (ValueError, IndexError) as error:
                raise StoreError(f"{path}, line {line}: {error}. Expected an id and numbers.") from None
    _check_unique(path, [name for name, _ in rows])
    for name, numbers in sorted(rows):
        yield ImportedFeatures(name, np.array([numbers], np.float32), None)


def _vectors(path: Path, values: np.ndarray) -> np.ndarray:
    """Return an array of shape (time, dim), or refuse it."""
    if values.dtype.kind not in "fiu" or values.ndim not in (1, 2) or 0 in values.shape[-1:]:
        raise StoreError(
            f"{path} holds {values.dtype} of shape {values.shape}. Expected numbers of shape (dim,) or (time, dim)."
        )
    return values if values.ndim == 2 else values[None]


def _check_unique(path: Path, ids: Iterable[str]) -> None:
    repeated = [i for i, n in Counter(ids).items() if n > 1]
    if repeated:
        raise StoreError(f"{path} repeats ids: {listing(repeated)}. Every clip needs one row.")
