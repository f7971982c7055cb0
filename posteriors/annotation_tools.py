"""Export of timelines to files, including those of annotation tools: Praat's TextGrid and ELAN's eaf."""

import datetime
import json
import math
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from ..cache._commit import write_text
from ..errors import PosteriorMismatch
from .timeline import Timeline

FORMATS = (".csv", ".json", ".TextGrid", ".eaf")

Span = tuple[float, float, str]
"""Start and end in seconds, and text."""


def export_timeline(timeline: Timeline, path: str | Path) -> None:
    """Write a timeline as CSV (a posterior over time), JSON, Praat TextGrid or ELAN document, by the suffix."""
    path = Path(path)
    match path.suffix:
        case ".csv":
            timeline.posterior.write(path)
        case ".json":
            write_text(path, json.dumps(timeline.as_json(), indent=1) + "\n")
        case ".TextGrid":
            write_text(path, praat(timeline))
        case ".eaf":
            write_text(path, elan(timeline))
        case _:
            raise PosteriorMismatch(
                f"A timeline cannot be written as {path.suffix or path.name!r}. Use one of {', '.join(FORMATS)}."
            )


def tiers(timeline: Timeline) -> dict[str, list[Span]]:
    """Return the tiers by name: the predicted emotion, its probability, and each dimension."""
    found: dict[str, list[Span]] = {}
    spans = list(zip(timeline.start.tolist(), timeline.end.tolist(), strict=True))
    if timeline.emotions:
        found["emotion"] = timeline.segments()
        found["probability"] = _texts(spans, timeline.probabilities.max(1))
    return found | {name: _texts(spans, values) for name, values in timeline.dimensions.items()}


def _texts(spans: Iterable[tuple[float, float]], values: Iterable[float]) -> list[Span]:
    return [
        (start, end, "" if math.isnan(value) else f"{value:.3f}")
        for (start, end), value in zip(spans, values, strict=True)
    ]


def praat(timeline: Timeline) -> str:
    """Return a TextGrid in Praat's long text format: interval tiers without gaps."""
    found = tiers(timeline)
    last = float(timeline.end[-1])
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {last:.6f}",
        "tiers? <exists>",
        f"size = {len(found)}",
        "item []:",
    ]
    for number, (name, spans) in enumerate(found.items(), start=1):
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
            "        xmin = 0",
            f"        xmax = {last:.6f}",
            f"        intervals: size = {len(spans)}",
        ]
        for i, (start, end, text) in enumerate(spans, start=1):
            lines += [
                f"        intervals [{i}]:",
                f"            xmin = {start:.6f}",
                f"            xmax = {end:.6f}",
                f"            text = {_quoted(text)}",
            ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace('"', '""') + '"'


def elan(timeline: Timeline) -> str:
    """Return an ELAN document (EAF 3.0); spans without a prediction are left out."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT", {"AUTHOR": "affuse", "DATE": now, "FORMAT": "3.0", "VERSION": "3.0"}
    )
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if timeline.media is not None:
        kind = "audio/x-wav" if timeline.media.suffix == ".wav" else "video/mp4"
        url = {"MEDIA_URL": timeline.media.absolute().as_uri(), "MIME_TYPE": kind}
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", url)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    found = {
        name: [(round(start * 1000), round(end * 1000), text) for start, end, text in spans if text]
        for name, spans in tiers(timeline).items()
    }
    times = sorted({time for spans in found.values() for start, end, _ in spans for time in (start, end)})
    slots = {time: f"ts{number}" for number, time in enumerate(times, 1)}
    for time, slot in slots.items():
        ElementTree.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(time)})
    number = 0
    for name, spans in found.items():
        tier = ElementTree.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": name})
        for start, end, text in spans:
            number += 1
            attributes = {"ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": slots[start], "TIME_SLOT_REF2": slots[end]}
            annotation = ElementTree.SubElement(tier, "ANNOTATION")
            span = ElementTree.SubElement(annotation, "ALIGNABLE_ANNOTATION", attributes)
            ElementTree.SubElement(span, "ANNOTATION_VALUE").text = text
    ElementTree.SubElement(
        root,
        "LINGUISTIC_TYPE",
        {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"},
    )
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'
