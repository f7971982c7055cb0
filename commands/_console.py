"""What the verbs share: kinds of arguments, and text for a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)


def printable(text: str) -> str:
    """Return text whose control characters cannot steer a terminal."""
    return "".join(c if c == "\n" or c.isprintable() else repr(c)[1:-1] for c in text)


def counted(n: int, what: str) -> str:
    """Return ``1 clip``, ``2 clips``."""
    return f"{n} {what}" + ("" if n == 1 else "s")


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows of one set of columns as aligned text."""
    columns = list(rows[0]) if rows else []
    lines = [columns, *([row[c] for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
