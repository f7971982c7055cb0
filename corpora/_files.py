"""Search for the files of a corpus, with an error that says what was expected and what was found."""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ManifestError, listing
from ..manifest import AUDIO_SUFFIXES, VIDEO_SUFFIXES

LFS_POINTER = b"version https://git-lfs"


class Files(NamedTuple):
    """Media files that share a name."""

    videos: list[Path]
    audios: list[Path]

    @property
    def video(self) -> Path | None:
        """First video file, if there is one."""
        return self.videos[0] if self.videos else None

    @property
    def audio(self) -> Path | None:
        """First audio file, if there is one."""
        return self.audios[0] if self.audios else None


def find_media(folder: Path, *, full_names: bool = False) -> dict[str, Files]:
    """Return all media files below a folder by their name, without the suffix; hidden files are skipped.

    With `full_names`, names include the path below the folder.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder. Expected a folder with media files.")
    found: defaultdict[str, Files] = defaultdict(lambda: Files([], []))
    pointers = []
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if suffix not in VIDEO_SUFFIXES | AUDIO_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        files = found[path.relative_to(folder).with_suffix("").as_posix() if full_names else path.stem]
        (files.videos if suffix in VIDEO_SUFFIXES else files.audios).append(path)
        if path.stat().st_size < 1024 and path.read_bytes().startswith(LFS_POINTER):
            pointers.append(path.name)
    if pointers:
        raise ManifestError(
            f"{folder} holds {len(pointers)} placeholders of Git LFS instead of media ({listing(pointers, 2)}). "
            "Run `git lfs pull` in it."
        )
    if not found:
        suffixes = " ".join(sorted(VIDEO_SUFFIXES | AUDIO_SUFFIXES))
        raise ManifestError(f"Found no media files below {folder}. Expected files that end in {suffixes}.")
    return dict(found)


def match_names(
    files: Mapping[str, Files], pattern: re.Pattern[str]
) -> tuple[list[tuple[re.Match[str], Files]], list[str]]:
    """Return the media whose whole name matches a pattern, and the names of the others."""
    matched = [(match, each) for name, each in files.items() if (match := pattern.fullmatch(name))]
    return matched, [name for name in files if not pattern.fullmatch(name)]


def find_folder(root: Path, *names: str) -> Path:
    """Return the first of several folders, given relative to the root, that exists."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    content = sorted(p.name for p in root.iterdir()) if root.is_dir() else []
    raise ManifestError(
        f"{root} holds no folder {' or '.join(names)}; found {listing(content) or 'nothing'}. "
        "Expected the corpus as it was distributed."
    )


def find_file(root: Path, name: str) -> Path:
    """Return the only file of this name below the root."""
    found = sorted(p for p in root.rglob(name) if p.is_file())
    if len(found) > 1:
        raise ManifestError(f"{root} holds several files {name}: {listing(found)}. Keep one of them.")
    if not found:
        raise ManifestError(f"{root} holds no file {name}. Expected the corpus as it was distributed.")
    return found[0]


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file of a corpus that must have the given columns."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        missing = [column for column in columns if column not in header]
        if missing:
            raise ManifestError(
                f"{path}, line 1: no column {listing(missing)}; found {listing(header)}. "
                "Expected the file as it was distributed."
            )
        rows = []
        for row in reader:
            if any(row[column] is None for column in columns):
                raise ManifestError(f"{path}, line {reader.line_num}: expected {len(header)} fields.")
            rows.append(row)
    return rows
