"""The contract of a corpus: what is on disk, as it was distributed, becomes a manifest."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ._manifest import Manifest


@dataclass(frozen=True)
class Facts:
    """What is published about a corpus.

    Attributes
    ----------
    counts : mapping of str to int
        Published counts, by what is counted: ``clips``, ``speakers``, an emotion.
    licence : str
    citation : str
    source : str
        Where it is obtained, and whether an agreement must be signed.
    """

    counts: Mapping[str, int]
    licence: str
    citation: str
    source: str


class Corpus(ABC):
    """Base of every corpus; its docstring's first line shows in `affuse list corpora`.

    Options are keyword-only arguments of the constructor, which stores.

    Attributes
    ----------
    facts : Facts
    """

    facts: ClassVar[Facts]

    @abstractmethod
    def read(self, root: Path) -> Manifest:
        """List the clips below a corpus's folder.

        Raises
        ------
        ManifestError
            The layout is not the one that was distributed; the message says what was wanted.
        """
