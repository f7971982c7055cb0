"""Names of modalities: ``audio``, ``visual``, ``text``, or any other lower-case word.

A modality is the part of the data that an encoder represents. Encoders and imported features declare
theirs, and the name of a stream begins with it: ``audio``, ``visual``, ``audio:whisper``.
"""

import re

from .errors import AffuseError

NAME = re.compile(r"[a-z][a-z0-9_]*")


def check_modality(name: str, error: type[AffuseError]) -> str:
    """Return the name of a modality if it is valid.

    Parameters
    ----------
    name : str
        One lower-case word.
    error : type
        Class of the exception to raise.

    >>> check_modality("text", AffuseError)
    'text'
    """
    if not NAME.fullmatch(name):
        raise error(
            f"Found the modality {name!r}; expected one lower-case word, such as audio, visual, text or physio."
        )
    return name


def modality_of(stream: str) -> str:
    """Return the modality that the name of a stream begins with.

    >>> modality_of("audio:whisper")
    'audio'
    """
    return stream.partition(":")[0]
