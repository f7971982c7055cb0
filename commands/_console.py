"""Text for a terminal: tables, counts and notes."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence

import click


def printable(text: str) -> str:
    """Return text in which control characters are escaped, so that they cannot steer a terminal."""
    return "".join(c if c == "\n" or c.isprintable() else repr(c)[1:-1] for c in text)


def note(text: str) -> None:
    """Print a note on standard error."""
    click.echo(f"note: {printable(text)}", err=True)


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural where needed.

    >>> counted(1, "clip"), counted(2000, "clip")
    ('1 clip', '2,000 clips')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def megabytes(n_bytes: int) -> str:
    """Return a size in megabytes."""
    return f"{n_bytes / 1e6:,.1f} MB"


def table(rows: Sequence[Mapping[str, str]], *, width: int | None = None) -> str:
    """Return rows with the same columns as an aligned table of `width` characters, by default those of the terminal.

    Where rows are too long, the last column is wrapped if the others leave it half of the width. Otherwise
    descriptions (rows with a column ``about``) become paragraphs, and numbers stay aligned.
    """
    if not rows:
        return ""
    width = width or shutil.get_terminal_size().columns
    columns = list(rows[0])
    lines = [columns, *([row[c] for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    indent = sum(widths[:-1]) + 2 * (len(columns) - 1)
    if indent > width / 2 and indent + widths[-1] > width:
        if "about" not in columns:
            return table(rows, width=indent + widths[-1])
        return "\n".join(_paragraph(row, columns, width) for row in rows)
    result = []
    for line in lines:
        start = "".join(cell.ljust(size + 2) for cell, size in zip(line[:-1], widths, strict=False))
        last = textwrap.wrap(line[-1], max(width - indent, 20), break_on_hyphens=False) or [""]
        result += [(start + last[0]).rstrip(), *(" " * indent + more for more in last[1:])]
    return "\n".join(result)


def _paragraph(row: Mapping[str, str], columns: Sequence[str], width: int) -> str:
    facts = [f"{name}: {row[name]}" for name in columns[1:] if row[name] and name != "about"]
    texts = [text for text in (row.get("about", ""), "; ".join(facts)) if text]
    wrap = textwrap.TextWrapper(width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join([row[columns[0]], *map(wrap.fill, texts)])
