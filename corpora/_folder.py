"""A manifest from a folder of media."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from ..errors import ManifestError, listing
from ..manifest import AUDIO_SUFFIXES, VIDEO_SUFFIXES, Clip, Manifest


def scan(folder: Path, *, pattern: str | None = None) -> Manifest:
    r"""List the media below a folder, a video and an audio file of one name as one clip.

    Parameters
    ----------
    folder : Path
        Ids are the paths below it, without their endings.
    pattern : str or None
        Regular expression searched in each id; its named groups ``speaker``, ``emotion``,
        ``split`` and ``fold`` fill these columns: ``(?P<speaker>\d+)_(?P<emotion>[a-z]+)``.

    Raises
    ------
    ManifestError
        No media, two videos of one name, or a pattern that fits no clip.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder; wanted one that holds media")
    found: defaultdict[str, dict[str, list[Path]]] = defaultdict(lambda: {"video": [], "audio": []})
    for path in sorted(folder.rglob("*")):
        kind = {**dict.fromkeys(VIDEO_SUFFIXES, "video"), **dict.fromkeys(AUDIO_SUFFIXES, "audio")}.get(
            path.suffix.lower()
        )
        if kind and path.is_file() and not path.name.startswith("."):
            found[path.relative_to(folder).with_suffix("").as_posix()][kind].append(path)
    if not found:
        endings = " ".join(sorted(VIDEO_SUFFIXES | AUDIO_SUFFIXES))
        raise ManifestError(f"no media below {folder}; wanted files ending in {endings}")
    double = [str(p) for kinds in found.values() for ps in kinds.values() if len(ps) > 1 for p in ps]
    if double:
        raise ManifestError(f"files that would be one clip: {listing(double)}; rename one")
    expression = _compiled(pattern)
    clips, misfits = [], []
    for name, kinds in found.items():
        match = expression.search(name) if expression else None
        if expression and match is None:
            misfits.append(name)
        columns: dict[str, Any] = match.groupdict() if match else {}
        video, audio = (next(iter(kinds[kind]), None) for kind in ("video", "audio"))
        clips.append(Clip(id=name, video=video, audio=audio, **columns))
    if misfits:
        raise ManifestError(
            f"the pattern '{pattern}' does not fit {len(misfits)} of {len(clips)} clips: "
            f"{listing(misfits)}; move them elsewhere, or widen it"
        )
    return Manifest(clips, name=str(folder))


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ManifestError(f"{pattern!r} is not a regular expression: {error}") from None
    known = {"speaker", "emotion", "split", "fold"}
    if not expression.groupindex or set(expression.groupindex) - known:
        raise ManifestError(
            f"{pattern!r} names the groups {sorted(expression.groupindex)}; wanted some of "
            f"{sorted(known)}, written (?P<speaker>…)"
        )
    return expression
