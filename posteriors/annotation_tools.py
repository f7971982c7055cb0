"""Timelines for annotation tools: Praat's TextGrid and ELAN's eaf, to look at and correct."""

import datetime
import math
from collections.abc import Iterable
from xml.etree import ElementTree

from .timeline import Timeline

Interval = tuple[float, float, str]


def tiers(timeline: Timeline) -> dict[str, list[Interval]]:
    """Return what both tools show: stretches of one emotion, its probability, each dimension."""
    found: dict[str, list[Interval]] = {}
    spans = list(zip(timeline.start.tolist(), timeline.end.tolist(), strict=True))
    if timeline.emotions:
        found["emotion"] = timeline.segments()
        found["probability"] = _texts(spans, timeline.probabilities.max(1))
    for name, values in timeline.dimensions.items():
        found[name] = _texts(spans, values)
    return found


def _texts(spans: Iterable[tuple[float, float]], values: Iterable[float]) -> list[Interval]:
    return [
        (start, end, "" if math.isnan(value) else f"{value:.3f}")
        for (start, end), value in zip(spans, values, strict=True)
    ]


def praat(timeline: Timeline) -> str:
    """Return a TextGrid in Praat's long text form: interval tiers without gaps."""
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
    for number, (name, intervals) in enumerate(found.items(), start=1):
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
            "        xmin = 0",
            f"        xmax = {last:.6f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for i, (start, end, text) in enumerate(intervals, start=1):
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
    """Return an ELAN document (EAF 3.0); stretches without an answer are left out."""
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
    number = 0
    slots: dict[int, str] = {}
    found = {
        name: [(round(s * 1000), round(e * 1000), text) for s, e, text in intervals if text]
        for name, intervals in tiers(timeline).items()
    }
    for moment in sorted({t for rows in found.values() for s, e, _ in rows for t in (s, e)}):
        slots[moment] = f"ts{len(slots) + 1}"
        slot = {"TIME_SLOT_ID": slots[moment], "TIME_VALUE": str(moment)}
        ElementTree.SubElement(order, "TIME_SLOT", slot)
    for name, rows in found.items():
        tier = ElementTree.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": name})
        for start, end, text in rows:
            number += 1
            facts = {"ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": slots[start], "TIME_SLOT_REF2": slots[end]}
            annotation = ElementTree.SubElement(tier, "ANNOTATION")
            span = ElementTree.SubElement(annotation, "ALIGNABLE_ANNOTATION", facts)
            ElementTree.SubElement(span, "ANNOTATION_VALUE").text = text
    ElementTree.SubElement(
        root,
        "LINGUISTIC_TYPE",
        {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"},
    )
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'
