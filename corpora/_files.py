"""Looking at a corpus's folder: what is there, and a clear refusal where it is not."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ManifestError, listing
from ..manifest import AUDIO_SUFFIXES, VIDEO_SUFFIXES

LFS_POINTER = b"version https://git-lfs"


class Files(NamedTuple):
    """Media of one name."""

    video: list[Path]
    audio: list[Path]


def media(folder: Path) -> dict[str, Files]:
    """Return all media below a folder by their names without folder and ending.

    Raises
    ------
    ManifestError
        No folder, no media, or placeholders of Git LFS instead of them.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder; wanted the corpus as it was distributed")
    found: defaultdict[str, Files] = defaultdict(lambda: Files([], []))
    pointers = []
    for path in sorted(folder.rglob("*")):
        ending = path.suffix.lower()
        if ending not in VIDEO_SUFFIXES | AUDIO_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        kind = found[path.stem].video if ending in VIDEO_SUFFIXES else found[path.stem].audio
        kind.append(path)
        if path.stat().st_size < 1024 and path.read_bytes().startswith(LFS_POINTER):
            pointers.append(path.name)
    if pointers:
        raise ManifestError(
            f"{folder} holds {len(pointers)} placeholders of Git LFS instead of media "
            f"({listing(pointers, 2)}); run `git lfs pull` in it"
        )
    if not found:
        raise ManifestError(f"no media below {folder}; wanted the corpus as it was distributed")
    return dict(found)


def folder_of(root: Path, *names: str) -> Path:
    """Return the first of several folders, relative to the root, that is there.

    Raises
    ------
    ManifestError
        None is; the message lists what is.
    """
    for name in names:
        if (root / name).is_dir():
            return root / name
    there = sorted(p.name for p in root.iterdir()) if root.is_dir() else []
    raise ManifestError(
        f"{root} holds no folder {' or '.join(names)}; found {listing(there) or 'nothing'}. "
        "Wanted the corpus as it was distributed"
    )


def file_of(root: Path, *patterns: str) -> Path:
    """Return the one file below the root that fits the first pattern that any fits.

    Raises
    ------
    ManifestError
        None does, or several of different places.
    """
    for pattern in patterns:
        found = sorted(p for p in root.rglob(pattern) if p.is_file())
        if len(found) > 1:
            raise ManifestError(f"{root} holds several {pattern}: {listing(found)}; keep one")
        if found:
            return found[0]
    raise ManifestError(f"{root} holds no file {' or '.join(patterns)}; wanted the corpus as it was distributed")


def table(
    path: Path, columns: Sequence[str], *, delimiter: str = ",", encoding: str = "utf-8-sig"
) -> list[dict[str, str]]:
    """Read a corpus's own CSV.

    Raises
    ------
    ManifestError
        A column is missing, a row is short.
    """
    with path.open(newline="", encoding=encoding, errors="replace") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        header = reader.fieldnames or []
        missing = [column for column in columns if column not in header]
        if missing:
            raise ManifestError(f"{path}, line 1: no column {listing(missing)}; found {listing(header)}")
        rows = []
        for row in reader:
            if any(row[column] is None for column in columns):
                raise ManifestError(f"{path}, line {reader.line_num}: wanted {len(header)} fields")
            rows.append(row)
    return rows


def told(count: int, what: str, ids: Iterable[object] = ()) -> tuple[str, ...]:
    """Return a note where there is something to tell, none where the count is 0."""
    names = listing(ids, 3)
    return (f"{count} {what}{f': {names}' if names else ''}",) if count else ()
