"""The timeline page: a recording beside its emotion bands and valence curve, click to seek."""

import base64
import mimetypes
import os
from pathlib import Path

import numpy as np

from ..posteriors.timeline import Timeline
from .page import page
from .plots import COLOURS

EMBEDDED = 64 * 2**20
"""A recording of at most so many bytes stands in the page itself."""


def timeline_page(timeline: Timeline, *, out: Path, made_by: str = "", embed: int = EMBEDDED) -> str:
    """Return the HTML.

    Parameters
    ----------
    timeline : Timeline
    out : Path
        Where the page will stand: a recording too large to embed is linked from there.
    made_by : str
        What answered, such as the names of runs.
    embed : int
        Bytes.
    """
    colours = [COLOURS[e % len(COLOURS)] for e in range(len(timeline.emotions))]
    ranges = {name: _range(values) for name, values in timeline.dimensions.items()}
    length = float(timeline.end[-1])
    data = timeline.as_json() | {"colours": colours, "ranges": ranges}
    return page(
        "timeline.html",
        data={
            "title": timeline.name,
            "under": f"{length:.1f} s, an answer every {timeline.end[0] - timeline.start[0]:g} s",
            "origin": {"recording": timeline.media.name if timeline.media else "", "answers by": made_by},
            "media": _media(timeline.media, out, embed),
            "emotions": list(zip(timeline.emotions, colours, strict=True)),
            "dimensions": [(name, f"{low:g}", f"{high:g}") for name, (low, high) in ranges.items()],
            "length": f"{length:.1f}",
            "data": data,
        },
        scripts=("timeline.js",),
    )


def _range(values: np.ndarray) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    low, high = min(float(low), -1.0), max(float(high), 1.0)
    return round(low, 2), round(high, 2)


def _media(path: Path | None, out: Path, embed: int) -> str:
    """Return the recording as a data address, or as a relative one where it is large."""
    if path is None or not path.is_file():
        return ""
    if path.stat().st_size > embed:
        return Path(os.path.relpath(path, out.parent)).as_posix()
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
