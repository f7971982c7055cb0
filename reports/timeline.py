"""The timeline page: a recording above its emotion probabilities and dimensions over time."""

import base64
import mimetypes
import os
from pathlib import Path

import numpy as np

from ..cache._commit import write_text
from ..manifest import AUDIO_SUFFIXES
from ..posteriors.annotation_tools import FORMATS, export_timeline
from ..posteriors.timeline import Timeline
from .page import page
from .plots import COLOURS

MAX_EMBEDDED = 64 * 2**20


def write_timeline(timeline: Timeline, folder: str | Path, *, made_by: str = "") -> Path:
    """Write the timeline of a recording into a folder: as an HTML page, CSV, JSON, Praat TextGrid and ELAN document.

    Parameters
    ----------
    timeline : Timeline
    folder : str or Path
    made_by : str
        Names of the runs that predicted, for the caption of the page.

    Returns
    -------
    Path
        The page.
    """
    path = Path(folder) / timeline.name
    for ending in FORMATS:
        export_timeline(timeline, path.with_name(path.name + ending))
    return write_timeline_page(timeline, path.with_name(path.name + ".html"), made_by=made_by)


def write_timeline_page(
    timeline: Timeline, out: str | Path, *, made_by: str = "", max_embedded: int = MAX_EMBEDDED
) -> Path:
    """Write a timeline as an HTML page that plays the recording; a click on a curve moves to that time.

    Recordings of more than `max_embedded` bytes are linked, relative to `out`, and not stored inside the page.
    """
    out = Path(out)
    colours = [COLOURS[e % len(COLOURS)] for e in range(len(timeline.emotions))]
    ranges = {name: _range(values) for name, values in timeline.dimensions.items()}
    length = float(timeline.end[-1])
    html = page(
        "timeline.html",
        data={
            "title": timeline.name,
            "under": f"{length:.1f} s, one prediction every {timeline.end[0] - timeline.start[0]:g} s",
            "origin": {"Recording": timeline.media.name if timeline.media else "", "Predicted by": made_by},
            "player": "audio" if timeline.media and timeline.media.suffix.lower() in AUDIO_SUFFIXES else "video",
            "media": _media(timeline.media, out, max_embedded),
            "emotions": list(zip(timeline.emotions, colours, strict=True)),
            "dimensions": [(name, f"{low:g}", f"{high:g}") for name, (low, high) in ranges.items()],
            "length": f"{length:.1f}",
            "data": timeline.as_json() | {"colours": colours, "ranges": ranges},
        },
        scripts=("timeline.js",),
    )
    write_text(out, html)
    return out


def _range(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the axis of a dimension, at least -1 to 1."""
    known = values[~np.isnan(values)]
    return round(float(known.min(initial=-1.0)), 2), round(float(known.max(initial=1.0)), 2)


def _media(path: Path | None, out: Path, max_embedded: int) -> str:
    """Return the address of the recording: a data address, or a relative path where the recording is large."""
    if path is None or not path.is_file():
        return ""
    if path.stat().st_size > max_embedded:
        return Path(os.path.relpath(path, out.parent)).as_posix()
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
