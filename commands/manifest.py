"""`affuse manifest`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import _options
from ._console import counted, note, printable, table

if TYPE_CHECKING:
    from ..corpora._corpus import Corpus, CorpusReading


@click.command("manifest", short_help="List the clips of a folder or a known corpus.")
@click.argument("folder", type=_options.PATH)
@_options.out("clips.csv", help="Manifest to write.")
@click.option(
    "--pattern",
    help="Regular expression for the ids (paths without their ending). Its named groups speaker, emotion, split and "
    "fold fill these columns.",
)
@click.option("--corpus", help="Name of the corpus that the folder holds; `affuse list corpora` lists them.")
@click.option(
    "--protocol",
    help="With --corpus: name of its division into folds or splits; `affuse list corpora NAME` lists them.  "
    "[default: the first one]",
)
@click.option("--set", "options", multiple=True, help="With --corpus: NAME=VALUE, an option of the corpus. Repeatable.")
@click.option(
    "--folds",
    type=click.IntRange(2),
    help="Divide the clips into this many folds, with all clips of a speaker in one.  "
    "[default: `affuse train` makes the folds]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the division into folds.")
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

    FOLDER is searched for video and audio files. A video and an audio file of the same name are one clip. With
    --corpus, labels, speakers and folds are read from the files of the corpus.

    \b
    affuse manifest VIDEOS/ -o clips.csv
    affuse manifest VIDEOS/ --pattern '(?P<speaker>\\d+)_(?P<emotion>[a-z]+)'
    affuse manifest RAVDESS/ --corpus ravdess --folds 5
    affuse list corpora ravdess
    """
    if corpus is None:
        if protocol or options:
            raise click.UsageError("--protocol and --set apply to a corpus. Pass --corpus as well.")
        from ..corpora._folder import scan

        clips = scan(folder, pattern=pattern)
        summary = ""
    else:
        if pattern:
            raise click.UsageError("--pattern cannot be used with --corpus, which reads the file names itself.")
        from ..corpora._corpus import open_corpus

        reader = open_corpus(corpus, protocol=protocol, options=dict(map(_setting, options)))
        reading = reader.read(folder)
        clips, summary = reading.write(out), _summary(reader, reading)
    if folds:
        clips = clips.with_folds(folds, seed=seed)
        unknown = sum(clip.speaker is None for clip in clips)
        if unknown:
            note(
                f"{counted(unknown, 'clip')} without a speaker. Each counts as a speaker of its own, so that a "
                "person may be in several folds. Fill in the speakers, or pass --pattern with a group named speaker."
            )
    clips.write(out)
    emotions = ", ".join(clips.emotions) or "none"
    click.echo(f"{out}: {counted(len(clips), 'clip')}, {counted(len(clips.speakers), 'speaker')}, emotions: {emotions}")
    click.echo(summary, nl=bool(summary))


def _setting(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not equals:
        raise click.UsageError(f"Found --set {option}. Write --set NAME=VALUE.")
    return name, value


def _summary(corpus: "Corpus", reading: "CorpusReading") -> str:
    """Return counts beside the published ones, the protocol, notes, licence and citation."""
    lines = [table(corpus.compare_counts(reading.manifest))]
    if corpus.protocol:
        lines.append(f"protocol {corpus.protocol}: {corpus.protocols[corpus.protocol]}")
    lines += [f"note: {printable(text)}" for text in reading.notes]
    return "\n".join([*lines, f"licence: {corpus.info.licence}", f"citation: {corpus.info.citation}"])
