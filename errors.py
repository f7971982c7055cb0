"""Everything that affuse raises on purpose.

::

    AffuseError
    ├── UnknownName          no such encoder, fusion, head, corpus, recipe, emotion
    ├── UnknownOption        the thing exists, but takes no such option
    ├── RecipeError          a recipe cannot be read or does not fit the data
    ├── ManifestError        a manifest cannot be read: file, line, column, all faults at once
    ├── MediaError           one clip's media: a row with a code, the work goes on
    ├── EncoderError         a checkpoint that cannot be had or used
    ├── MissingFeatures      features asked for that nobody extracted
    ├── StoreError           a features folder that is damaged, foreign or not writable
    ├── EnvironmentFailure   disk full, out of memory, hub unreachable: running again goes on
    ├── PosteriorMismatch    posteriors whose clips or emotions differ
    └── LeakError            something was, or would be, fitted on what is scored

A message says what was found, what was wanted, what to do.
"""

import difflib
from collections.abc import Iterable


class AffuseError(Exception):
    """Base of every error that affuse raises on purpose."""


class UnknownName(AffuseError):
    """A name that nothing answers to."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no {kind} called {name!r}; {suggestion(name, known)}")


class UnknownOption(AffuseError):
    """Options that a plug-in does not take; all of them at once."""

    def __init__(self, owner: str, options: Iterable[str], known: Iterable[str]) -> None:
        known = list(known)
        found = [f"{owner} takes no {o!r}; {suggestion(o, known)}" for o in options]
        super().__init__("\n".join(found))


class RecipeError(AffuseError):
    """A recipe that cannot be read, or that does not fit the data."""


class ManifestError(AffuseError):
    """A manifest that cannot be read; the message lists every fault with line and column."""


class MediaError(AffuseError):
    """One clip's media could not be used.

    Attributes
    ----------
    code : str
        Stable word for the kind of failure, such as ``no_audio_stream``.
    reason : str
        One sentence without paths, times or addresses, the same on every machine.
    """

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"{code}: {reason}")


class EncoderError(AffuseError):
    """A checkpoint that is missing, gated, unsafe or does not fit."""


class MissingFeatures(AffuseError):
    """Features that nobody extracted yet; the message holds the command that makes them."""


class StoreError(AffuseError):
    """A features folder that is damaged, foreign or cannot be written."""


class EnvironmentFailure(AffuseError):
    """Not a clip's fault: disk full, out of memory, hub unreachable. Running again goes on."""


class PosteriorMismatch(AffuseError):
    """Posteriors, or posteriors and labels, whose clips or emotions differ."""


class LeakError(AffuseError):
    """Something was fitted, or is about to be, on what is scored."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name as a question, or the list of what there is.

    >>> suggestion("widht", ["width", "depth"])
    "did you mean 'width'?"
    >>> suggestion("x", ["width", "depth"])
    'there is: depth, width'
    """
    known = sorted(known)
    plain = {word.casefold(): word for word in known}
    near = difflib.get_close_matches(name.casefold(), plain, n=1)
    if near:
        return f"did you mean {plain[near[0]]!r}?"
    return f"there is: {', '.join(known)}" if known else "there are none at all"


def listing(items: Iterable[object], most: int = 5) -> str:
    """Return a short list for a message: the first few, then how many more.

    >>> listing("abcdefg", most=3)
    'a, b, c and 4 more'
    """
    words = [str(i) for i in items]
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest} more" if rest > 0 else "")
