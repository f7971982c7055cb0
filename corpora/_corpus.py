"""The contract of a corpus: what is on disk, as it was distributed, becomes a manifest."""

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..annotations import Track
from ..errors import UnknownName
from ..manifest import Manifest


@dataclass(frozen=True)
class CorpusInfo:
    """Under which terms a corpus is had.

    Attributes
    ----------
    licence : str
    citation : str
    source : str
        Where it is obtained, and whether an agreement must be signed.
    """

    licence: str
    citation: str
    source: str


@dataclass(frozen=True)
class CorpusReading:
    """What was found in a corpus's folder.

    Attributes
    ----------
    manifest : Manifest
    notes : tuple of str
        Known faults that were met, and what was done about each.
    tracks : mapping of str to Track
        Labels over time, by clip.
    """

    manifest: Manifest
    notes: tuple[str, ...] = ()
    tracks: Mapping[str, Track] = field(default_factory=dict)

    def write(self, path: Path) -> Manifest:
        """Write the manifest, and the tracks into a folder ``<name>-labels`` beside it.

        Returns
        -------
        Manifest
            With the tracks' files in the column ``labels``.
        """
        folder = path.parent / f"{path.stem}-labels"
        places = {}
        for i, (clip, track) in enumerate(self.tracks.items()):
            # Numbered: a clip's id may hold what a file name cannot.
            places[clip] = folder / f"{i:05d}.csv"
            track.write(places[clip])
        clips = (dataclasses.replace(c, labels=places.get(c.id, c.labels)) for c in self.manifest)
        manifest = Manifest(clips, name=self.manifest.name)
        manifest.write(path)
        return manifest


class Corpus(ABC):
    """Base of every corpus; its docstring's first line shows in `affuse list corpora`.

    Options are keyword-only arguments of the constructor, which stores.

    Parameters
    ----------
    protocol : str or None
        One of `protocols`; None: the first of them.

    Attributes
    ----------
    facts : CorpusInfo
    emotions : tuple of str
        Labels in the field's order.
    protocols : mapping of str to str
        How the corpus is divided, by name, with a line each.
    """

    facts: ClassVar[CorpusInfo]
    emotions: ClassVar[tuple[str, ...]] = ()
    protocols: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *, protocol: str | None = None) -> None:
        if protocol is not None and protocol not in self.protocols:
            raise UnknownName("protocol", protocol, self.protocols)
        self.protocol = protocol or next(iter(self.protocols), None)

    @classmethod
    def catalogue(cls) -> list[dict[str, str]]:
        """Return what `affuse list corpora` shows: what it is, where it is had, on which terms."""
        about = (cls.__doc__ or "").partition("\n")[0]
        return [{"about": about, "source": cls.facts.source, "licence": cls.facts.licence}]

    @abstractmethod
    def read(self, root: Path) -> CorpusReading:
        """List the clips below a corpus's folder.

        Raises
        ------
        ManifestError
            The layout is not the one that was distributed; the message says what was wanted.
        """

    @abstractmethod
    def published(self) -> Mapping[str, int]:
        """Return published counts under these options: ``clips``, ``speakers``, emotions."""

    def compared(self, manifest: Manifest) -> list[dict[str, str]]:
        """Return rows of what was counted beside what is published."""
        found, published = self.counted(manifest), self.published()
        return [
            {
                "counted": name,
                "found": str(found.get(name, 0)),
                "published": str(published.get(name, "")),
                "": "" if found.get(name, 0) == published.get(name, found.get(name, 0)) else "differs",
            }
            for name in {**published, **found}
        ]

    def counted(self, manifest: Manifest) -> Mapping[str, int]:
        """Return the same counts of what was found."""
        found = Counter(clip.emotion for clip in manifest if clip.emotion)
        splits = Counter(f"{clip.split} clips" for clip in manifest if clip.split)
        return {"clips": len(manifest), "speakers": len(manifest.speakers)} | splits | found
