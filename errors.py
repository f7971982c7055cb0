"""Exceptions that affuse raises on purpose.

::

    AffuseError
    ├── UnknownName             no plug-in, recipe or choice has this name
    ├── UnknownOption           the plug-in exists but does not take this option
    ├── InvalidValue            an argument has a value that it cannot take
    ├── RecipeError             a recipe cannot be read or does not fit the data
    ├── ManifestError           a manifest, annotation file or corpus cannot be read
    ├── MediaError              one clip cannot be decoded; recorded with a code, the run continues
    ├── EncoderError            a checkpoint is missing, unsafe or does not fit the encoder
    ├── DeviceError             the requested device does not exist or cannot be used
    ├── MissingFeatures         features that have not been extracted yet
    ├── StoreError              a feature store is damaged, unknown or cannot be written
    ├── EnvironmentFailure      disk full, out of memory, hub unreachable: run the command again
    ├── PosteriorError          a posterior file is missing or cannot be read
    │   └── PosteriorMismatch   posteriors or labels disagree on clips or emotions
    └── LeakError               a model was, or would be, fitted on the clips that are scored

Each message says what was found, what was expected and what to do.
"""

import difflib
from collections.abc import Collection, Iterable


class AffuseError(Exception):
    """Base class of every error that affuse raises on purpose."""


class UnknownName(AffuseError):
    """A name that belongs to no plug-in, recipe or choice.

    Parameters
    ----------
    kind : str
        Kind of thing that was looked up, such as ``encoder``.
    name : str
        Name that was not found.
    known : iterable of str
        Names that exist; the nearest one is suggested.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"Unknown {kind} {name!r}; {suggestion(name, known)}")


class UnknownOption(AffuseError):
    """Options that a plug-in does not take; one message names all of them.

    Parameters
    ----------
    owner : str
        Name of the plug-in.
    options : iterable of str
        Options that were not recognised.
    known : iterable of str
        Options that the plug-in takes; the nearest one is suggested.
    """

    def __init__(self, owner: str, options: Iterable[str], known: Iterable[str]) -> None:
        known = list(known)
        super().__init__("\n".join(f"{owner} has no option {o!r}; {suggestion(o, known)}" for o in options))


class InvalidValue(AffuseError):
    """An argument has a value that it cannot take."""


class RecipeError(AffuseError):
    """A recipe cannot be read, or does not fit the data."""


class ManifestError(AffuseError):
    """A manifest, annotation file or corpus cannot be read; the message gives file, line and column."""


class MediaError(AffuseError):
    """The media of one clip cannot be used. An extraction records the code and continues with the next clip.

    Parameters
    ----------
    code : str
        Stable identifier of the kind of failure, such as ``no_audio_stream``.
    reason : str
        One sentence without paths, times or addresses, so that it is the same on every machine.
    """

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"{code}: {reason}")


class EncoderError(AffuseError):
    """A checkpoint is missing, gated or unsafe, or does not fit the encoder."""


class DeviceError(AffuseError):
    """The requested device does not exist or cannot be used on this machine."""


class MissingFeatures(AffuseError):
    """Features have not been extracted yet; the message gives the command that extracts them."""


class StoreError(AffuseError):
    """A feature store is damaged, was not written by affuse, or cannot be written."""


class EnvironmentFailure(AffuseError):
    """The machine failed, not a clip: disk full, out of memory, hub unreachable.

    Running the same command again resumes the work.
    """


class PosteriorError(AffuseError):
    """A posterior file is missing or cannot be read."""


class PosteriorMismatch(PosteriorError):
    """Posteriors, or posteriors and labels, disagree on their clips or emotions."""


class LeakError(AffuseError):
    """A model was fitted, or is about to be fitted, on the clips that are scored."""


def check_known(kind: str, name: str, known: Collection[str]) -> None:
    """Raise `UnknownName` if a name is not among the known ones."""
    if name not in known:
        raise UnknownName(kind, name, known)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name as a question, or the list of all known names.

    >>> suggestion("widht", ["width", "depth"])
    "did you mean 'width'?"
    >>> suggestion("x", ["width", "depth"])
    'available: depth, width'
    """
    known = sorted(known)
    by_lower_case = {word.casefold(): word for word in known}
    near = difflib.get_close_matches(name.casefold(), by_lower_case, n=1)
    if near:
        return f"did you mean {by_lower_case[near[0]]!r}?"
    return f"available: {', '.join(known)}" if known else "none is available"


def listing(items: Iterable[object], most: int = 5) -> str:
    """Return a short list for a message: the first items and the number of the others.

    >>> listing("abcdefg", most=3)
    'a, b, c and 4 more'
    """
    words = [str(i) for i in items]
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest} more" if rest > 0 else "")
