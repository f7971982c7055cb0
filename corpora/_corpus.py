"""The contract of a corpus: it turns the files of a corpus, as distributed, into a manifest."""

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from .. import plugins
from ..annotations import Track
from ..errors import ManifestError, check_known, listing
from ..manifest import Manifest


@dataclass(frozen=True)
class CorpusInfo:
    """Terms of use of a corpus.

    Attributes
    ----------
    licence : str
        Name of the licence.
    citation : str
        Publication to cite.
    source : str
        Where to obtain the corpus, and whether an agreement must be signed.
    """

    licence: str
    citation: str
    source: str


@dataclass(frozen=True)
class CorpusReading:
    """Clips that were found in the folder of a corpus.

    Attributes
    ----------
    manifest : Manifest
        Clips with their labels.
    notes : tuple of str
        Known faults that were found, and how each was handled.
    tracks : mapping of str to Track
        Labels over time, by clip id.
    """

    manifest: Manifest
    notes: tuple[str, ...] = ()
    tracks: Mapping[str, Track] = field(default_factory=dict)

    def write(self, path: str | Path) -> Manifest:
        """Write the manifest, and the labels over time to a folder ``<name>-labels`` beside it.

        Returns
        -------
        Manifest
            The clips, with the files of the labels over time in the column ``labels``.
        """
        path = Path(path)
        files = {}
        for i, (clip, track) in enumerate(self.tracks.items()):
            # Files are numbered because an id may contain characters that a file name cannot.
            files[clip] = path.parent / f"{path.stem}-labels" / f"{i:05d}.csv"
            track.write(files[clip])
        clips = (dataclasses.replace(c, labels=files.get(c.id, c.labels)) for c in self.manifest)
        manifest = Manifest(clips, name=self.manifest.name)
        manifest.write(path)
        return manifest


class Corpus(ABC):
    """Base class of every corpus; the first line of a subclass's docstring is shown by `affuse list corpora`.

    Options are keyword-only arguments of the constructor, which only stores them.

    Parameters
    ----------
    protocol : str or None
        One of `protocols`; None selects the first.

    Attributes
    ----------
    info : CorpusInfo
        Licence, citation and source.
    emotions : tuple of str
        Emotion labels, in the customary order.
    protocols : mapping of str to str
        Ways of dividing the corpus into splits or folds, with one line of description each.
    names_speakers : bool
        Whether the column ``speaker`` holds persons, so that they can be counted. Where a corpus does
        not say who speaks, the column holds the recording, which keeps its clips together.
    """

    info: ClassVar[CorpusInfo]
    emotions: ClassVar[tuple[str, ...]] = ()
    protocols: ClassVar[Mapping[str, str]] = {}
    names_speakers: ClassVar[bool] = True

    def __init__(self, *, protocol: str | None = None) -> None:
        if protocol is not None:
            check_known("protocol", protocol, self.protocols)
        self.protocol = protocol or next(iter(self.protocols), None)

    @classmethod
    def catalogue(cls) -> list[dict[str, str]]:
        """Return the row of `affuse list corpora`: description, source and licence."""
        about = (cls.__doc__ or "").partition("\n")[0]
        return [{"about": about, "source": cls.info.source, "licence": cls.info.licence}]

    @abstractmethod
    def read(self, root: Path) -> CorpusReading:
        """List the clips below the folder of a corpus.

        Raises
        ------
        ManifestError
            The folder differs from the distributed corpus; the message says what was expected.
        """

    @abstractmethod
    def published_counts(self) -> Mapping[str, int]:
        """Return published numbers of clips, speakers, clips per split and clips per emotion."""

    def count(self, manifest: Manifest) -> Mapping[str, int]:
        """Return the same numbers for clips that were found."""
        counts = {"clips": len(manifest)}
        if self.names_speakers:
            counts["speakers"] = len(manifest.speakers)
        counts |= Counter(f"{clip.split} clips" for clip in manifest if clip.split)
        return counts | Counter(clip.emotion for clip in manifest if clip.emotion)

    def compare_counts(self, manifest: Manifest) -> list[dict[str, str]]:
        """Return a table of the numbers that were found beside the published ones."""
        found, published = self.count(manifest), self.published_counts()
        return [
            {
                "count": name,
                "found": str(found.get(name, 0)),
                "published": str(published.get(name, "")),
                "": "" if found.get(name, 0) == published.get(name, found.get(name, 0)) else "differs",
            }
            for name in {**published, **found}
        ]


def open_corpus(name: str, *, protocol: str | None = None, options: Mapping[str, object] | None = None) -> Corpus:
    """Return a corpus by name; its `Corpus.read` lists the clips of a folder.

    Parameters
    ----------
    name : str
        Name of the corpus; `affuse list corpora` lists them.
    protocol : str or None
        Way of dividing the corpus into splits or folds; None selects the first of its protocols.
    options : mapping or None
        Options of the corpus, such as ``{"channel": "song"}`` for RAVDESS.

    Raises
    ------
    UnknownName, UnknownOption
        The corpus, protocol or option does not exist; the message suggests the nearest one.
    """
    settings = dict(options or {}) | ({} if protocol is None else {"protocol": protocol})
    corpus: Corpus = plugins.build("corpus", name, settings=settings)
    return corpus


def read_corpus(
    name: str,
    root: str | Path,
    *,
    protocol: str | None = None,
    options: Mapping[str, object] | None = None,
    out: str | Path | None = None,
) -> Manifest:
    """Read the manifest of a corpus from its folder, as it was distributed.

    Parameters
    ----------
    name : str
        Name of the corpus; `affuse list corpora` lists them.
    root : str or Path
        Folder of the corpus.
    protocol : str or None
        Way of dividing the corpus into splits or folds, see `open_corpus`.
    options : mapping or None
        Options of the corpus, see `open_corpus`.
    out : str or Path or None
        CSV or Parquet file to write the manifest to. It is required for a corpus with labels over
        time, which are written to a folder beside the file.

    Returns
    -------
    Manifest
        Clips with their labels, speakers, and splits or folds.

    Raises
    ------
    UnknownName, UnknownOption
        The corpus, protocol or option does not exist; the message suggests the nearest one.
    ManifestError
        The folder differs from the distributed corpus, or `out` is missing.
    """
    reading = open_corpus(name, protocol=protocol, options=options).read(Path(root))
    if out is not None:
        return reading.write(out)
    if reading.tracks:
        raise ManifestError(f"{name} has labels over time, which are stored in files. Pass out='clips.csv' as well.")
    return reading.manifest


# -- shared by the corpora ------------------------------------------------------------------


def consecutive_folds(items: Iterable[str], n: int) -> dict[str, str]:
    """Divide items into `n` consecutive folds of equal size; the last fold takes the remainder."""
    items = list(items)
    size = max(1, len(items) // n)
    return {item: str(min(i // size, n - 1)) for i, item in enumerate(items)}


def note(count: int, text: str, ids: Iterable[object] = ()) -> tuple[str, ...]:
    """Return a note that begins with the count and ends with some ids; no note for a count of 0."""
    names = listing(ids, 3)
    return (f"{count} {text}{f': {names}' if names else ''}",) if count else ()
