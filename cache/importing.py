"""Features that another tool made, brought into a store.

Three forms: a folder of one ``.npy`` a clip (MERTools' layout), an ``.npz`` of packed frames, a CSV
of one row a clip. No form may hold Python objects.
"""

import csv
import hashlib
import math
import re
import zipfile
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import StoreError, listing
from .store import Features, FeatureStore, Row

MODALITIES = ("audio", "visual", "text")
SHARD = 1024
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ImportedFeatures(NamedTuple):
    """One clip's features as found: `values` of shape (time, dim), seconds where they are known."""

    id: str
    values: np.ndarray
    duration: float | None


def import_features(
    path: str | Path, store: FeatureStore, *, name: str, modality: str, rate: float | None = None
) -> str:
    """Copy another tool's features into the store.

    Parameters
    ----------
    path : str or Path
        A folder of ``<clip id>.npy``, each of shape (dim,) or (time, dim); an ``.npz`` with
        ``frames`` (all frames, dim), ``lengths`` and ``ids`` (clips,) and, where known,
        ``duration`` (clips,) in seconds; or a CSV with a column ``id`` and one column a feature.
    store : FeatureStore
    name : str
        What the key begins with; letters, digits, ``.``, ``_``, ``-``.
    modality : str
        ``audio``, ``visual`` or ``text``.
    rate : float or None
        Vectors a second. Without it the clip's duration, where the file tells it, is divided
        evenly; where neither is known times are nan.

    Returns
    -------
    str
        The key: the name and a digest of the content, so importing twice changes nothing.

    Raises
    ------
    StoreError
        Another form, Python objects, ids that occur twice, mixed widths.
    """
    path = Path(path)
    if not NAME.fullmatch(name):
        raise StoreError(f"{name!r} cannot begin a key; wanted letters, digits, '.', '_' or '-'")
    if modality not in MODALITIES:
        raise StoreError(f"there is no modality {modality!r}; wanted audio, visual or text")
    if rate is not None and not (rate > 0 and math.isfinite(rate)):
        raise StoreError(f"a rate of {rate} vectors a second; wanted a number above 0")
    clips = _opened(path)
    first = next(clips, None)
    if first is None:
        raise StoreError(f"{path} holds no clip")
    dim = first.values.shape[1]
    content = _digest(path, rate)
    specification = {
        "name": name,
        "modality": modality,
        "dim": dim,
        "rate": rate,
        "dtype": "float16" if first.values.dtype == np.float16 else "float32",
        "identity": {"imported": content},
    }
    key = f"{name}-{content[:12]}"
    rows = (_row(path, clip, dim, rate) for clip in chain([first], clips))
    for index, part in enumerate(iter(lambda: list(islice(rows, SHARD)), [])):
        store.write(key, f"{index:05d}", specification, part)
    return key


def _opened(path: Path) -> Iterator[ImportedFeatures]:
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise StoreError(f"{path} does not exist; wanted a folder of .npy, an .npz or a .csv")
    forms = {".npz": _packed, ".csv": _table}
    if path.suffix.lower() not in forms:
        raise StoreError(f"{path} is neither a folder of .npy files, an .npz nor a .csv")
    return forms[path.suffix.lower()](path)


def _digest(path: Path, rate: float | None) -> str:
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
            f"{path}: clip {clip.id!r} is {clip.values.shape[1]} wide, the first clip {dim}; "
            "features of one name have one width"
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


def _folder(path: Path) -> Iterator[ImportedFeatures]:
    ids = {file.relative_to(path).with_suffix("").as_posix(): file for file in path.rglob("*.npy")}
    for name, file in sorted(ids.items()):
        try:
            values = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise StoreError(f"{file} cannot be read as an array of numbers: {error}") from None
        yield ImportedFeatures(name, _numbers(file, np.atleast_1d(values)), None)


def _packed(path: Path) -> Iterator[ImportedFeatures]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = {"frames", "lengths", "ids"} - set(file.files)
            if missing:
                raise StoreError(f"{path} holds {listing(file.files)}; {listing(missing)} missing")
            frames, lengths, ids = file["frames"], file["lengths"], file["ids"].astype(str)
            duration = file["duration"] if "duration" in file.files else None
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} cannot be read as arrays of numbers: {error}") from None
    clips = len(ids)
    fits = (
        lengths.shape == ids.shape == (clips,)
        and lengths.dtype.kind in "iu"
        and bool((lengths >= 0).all())
        and int(lengths.sum()) == len(frames)
        and (duration is None or duration.shape == (clips,))
    )
    if not fits:
        raise StoreError(
            f"{path}: {len(frames)} frames, {clips} ids and lengths that sum to {lengths.sum()} do not fit together"
        )
    _check_ids(path, ids.tolist())
    starts = np.cumsum([0, *lengths.tolist()])
    frames = _numbers(path, frames)
    for i in np.argsort(ids, kind="stable"):
        values = frames[starts[i] : starts[i + 1]]
        seconds = math.nan if duration is None else float(duration[i])
        yield ImportedFeatures(str(ids[i]), values, None if math.isnan(seconds) else seconds)


def _table(path: Path) -> Iterator[ImportedFeatures]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if "id" not in header or len(header) < 2:
            raise StoreError(f"{path} has no column 'id' with columns of numbers beside it")
        column = header.index("id")
        rows: dict[str, list[float]] = {}
        ids = []
        for line, cells in enumerate(reader, start=2):
            try:
                name = cells.pop(column)
                rows[name] = [float(cell or "nan") for cell in cells]
            except (ValueError, IndexError) as error:
                raise StoreError(f"{path}, line {line}: {error}; wanted numbers") from None
            ids.append(name)
    _check_ids(path, ids)
    for name in sorted(rows):
        yield ImportedFeatures(name, np.array([rows[name]], np.float32), None)


def _numbers(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "fiu" or values.ndim not in (1, 2) or 0 in values.shape[-1:]:
        raise StoreError(
            f"{path} holds {values.dtype} of shape {values.shape}; wanted numbers of shape (dim,) or (time, dim)"
        )
    return values if values.ndim == 2 else values[None]


def _check_ids(path: Path, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    twice = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
    if twice:
        raise StoreError(f"{path}: ids that occur more than once: {listing(twice)}")
