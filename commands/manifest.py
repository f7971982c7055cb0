"""`affuse manifest`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._console import FILE, PATH, counted, printable, table

if TYPE_CHECKING:
    from ..manifest import Manifest


@click.command("manifest")
@click.argument("folder", type=PATH)
@click.option("-o", "--out", type=FILE, default="clips.csv", show_default=True)
@click.option("--pattern", help="Regex with groups speaker, emotion, split, fold, on each id.")
@click.option("--corpus", help="The folder holds this corpus; `affuse list corpora` has the names.")
@click.option("--protocol", help="How the corpus is divided; its first one is the default.")
@click.option("--set", "options", multiple=True, help="An option of the corpus: channel=song.")
@click.option("--folds", type=click.IntRange(2), help="Deal clips into so many folds, speakers kept together.")
@click.option("--seed", type=int, default=0, show_default=True)
def command(
    folder: Path,
    out: Path,
    pattern: str | None,
    corpus: str | None,
    protocol: str | None,
    options: tuple[str, ...],
    folds: int | None,
    seed: int,
) -> None:
    """Write a manifest, the table of clips, from a folder of media or a known corpus.

    \b
    affuse manifest VIDEOS/ -o clips.csv
    affuse manifest VIDEOS/ --pattern '(?P<speaker>\\d+)_(?P<emotion>[a-z]+)' --folds 5
    affuse manifest RAVDESS/ --corpus ravdess -o clips.csv
    """
    from ..corpora._folder import scan

    if corpus is None:
        if protocol or options:
            raise click.UsageError("--protocol and --set belong to --corpus")
        clips, said = scan(folder, pattern=pattern), ""
    else:
        if pattern:
            raise click.UsageError("--pattern does not go with --corpus, which reads names itself")
        clips, said = from_corpus(corpus, folder, out, protocol, options)
    if folds:
        clips = clips.dealt(folds, seed=seed)
        unknown = sum(clip.speaker is None for clip in clips)
        if unknown:
            click.echo(
                f"warning: {unknown} clips have no speaker and are dealt singly; one person "
                "may be on both sides of a fold. --pattern with a group speaker keeps "
                "speakers together",
                err=True,
            )
    clips.write(out)
    click.echo(
        f"{out}: {counted(len(clips), 'clip')}, {counted(len(clips.speakers), 'speaker')}, "
        f"emotions: {', '.join(clips.emotions) or 'not annotated'}{said}"
    )


def from_corpus(
    name: str, folder: Path, out: Path, protocol: str | None, options: tuple[str, ...]
) -> "tuple[Manifest, str]":
    """Read a corpus and write its tracks; return the clips, and what is to be said of them."""
    from .. import plugins

    settings = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise click.UsageError(f"--set {option}: wanted name=value")
        settings[key] = value
    corpus = plugins.build("corpus", name, settings=settings | ({"protocol": protocol} if protocol else {}))
    reading = corpus.read(folder)
    divided = {c: line for c, line in corpus.protocols.items() if c == corpus.protocol}
    lines = ["", table(corpus.compared(reading.manifest))]
    lines += [f"protocol {c}: {line}" for c, line in divided.items()]
    lines += [f"note: {printable(note)}" for note in reading.notes]
    lines += [f"licence: {corpus.facts.licence}", f"citation: {corpus.facts.citation}"]
    return reading.write(out), "\n".join(lines)
