"""Manifests of arbitrary folders of media."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ManifestError, listing
from ..manifest import AUDIO_SUFFIXES, VIDEO_SUFFIXES, Clip, Manifest
from ._files import find_media

GROUPS = ("speaker", "emotion", "split", "fold")


def scan(folder: str | Path, *, pattern: str | None = None) -> Manifest:
    r"""List the media files below a folder; a video and an audio file with the same name are one clip.

    Parameters
    ----------
    folder : str or Path
        Folder to search. The id of a clip is its path below the folder, without the suffix.
    pattern : str or None
        Regular expression that is searched in each id. Its named groups ``speaker``, ``emotion``,
        ``split`` and ``fold`` fill these columns, for example
        ``(?P<speaker>\d+)_(?P<emotion>[a-z]+)``.

    Returns
    -------
    Manifest
        Clips in the order of their paths.

    Raises
    ------
    ManifestError
        The folder holds no media, two files would be the same medium of one clip, or the pattern is
        invalid or does not match every id.

    Examples
    --------
    >>> scan("VIDEOS", pattern=r"(?P<speaker>\d+)_(?P<emotion>[a-z]+)")  # doctest: +SKIP
    <Manifest VIDEOS: 180 clips, 10 speakers>
    """
    folder = Path(folder)
    expression = _compile(pattern)
    media = find_media(folder, full_names=True)
    ambiguous = [path for files in media.values() for paths in files if len(paths) > 1 for path in paths]
    if ambiguous:
        raise ManifestError(f"Several files would be one clip: {listing(ambiguous)}. Rename all but one of them.")
    clips, unmatched = [], []
    for name, files in media.items():
        match = expression.search(name) if expression else None
        if expression and match is None:
            unmatched.append(name)
        labels: dict[str, Any] = match.groupdict() if match else {}
        clips.append(Clip(id=name, video=files.video, audio=files.audio, **labels))
    if unmatched:
        raise ManifestError(
            f"The pattern '{pattern}' does not match {len(unmatched)} of {len(clips)} ids: {listing(unmatched)}. "
            "Move these files elsewhere, or extend the pattern."
        )
    return Manifest(clips, name=str(folder))


def scan_files(paths: Sequence[str | Path]) -> Manifest:
    """List media files as clips with the names of the files as ids, and folders as `scan` does."""
    clips: list[Clip] = []
    for path in map(Path, paths):
        if path.is_dir():
            clips += scan(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            clips.append(Clip(path.stem, video=path))
        elif path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
            clips.append(Clip(path.stem, audio=path))
        else:
            suffixes = " ".join(sorted(VIDEO_SUFFIXES | AUDIO_SUFFIXES))
            problem = "is not a media file" if path.is_file() else "does not exist"
            raise ManifestError(f"{path} {problem}. Name a folder, or a file that ends in one of {suffixes}.")
    return Manifest(clips, name=" ".join(map(str, paths)))


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ManifestError(f"{pattern!r} is not a regular expression: {error}.") from None
    if not expression.groupindex or not set(expression.groupindex) <= set(GROUPS):
        raise ManifestError(
            f"{pattern!r} has the named groups {listing(expression.groupindex) or '(none)'}. Expected some of "
            f"{', '.join(GROUPS)}, written as (?P<speaker>…)."
        )
    return expression
