"""The choice of layers, the specification of stored features, and the key derived from it.

This module does not import torch, so that a complete store is recognised quickly.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from ..errors import EncoderError


@dataclass(frozen=True)
class Layers:
    """Choice and pooling of hidden states, such as ``last``, ``-5``, ``-4:-1`` or ``all``.

    Attributes
    ----------
    text : str
        Layer index, several indices joined by ``+`` (``-5+-1``), inclusive range (``-4:-1``),
        ``last`` or ``all``. Index 0 is the first hidden state.
    how : {"apart", "sum", "mean"}
        Keep the chosen layers apart, or combine them.
    pool : {"none", "mean"}
        Keep all time steps, or average them into one vector per clip.
    """

    text: str = "last"
    how: Literal["sum", "mean", "apart"] = "apart"
    pool: Literal["none", "mean"] = "none"

    def indices(self, n_layers: int) -> tuple[int, ...]:
        """Return the indices of the chosen hidden states, counted from the first.

        Raises
        ------
        EncoderError
            The text is not a choice of layers, or the encoder does not have these layers.

        >>> Layers("-4:-1").indices(13)
        (9, 10, 11, 12)
        """
        if self.text == "all":
            return tuple(range(n_layers))
        indices: list[int] = []
        for part in self.text.replace("last", "-1").split("+"):
            match = re.fullmatch(r"(-?\d+)(?::(-?\d+))?", part)
            if not match:
                raise EncoderError(
                    f"Found layers={self.text}; expected an index (-5), a range (-4:-1), a list (-5+-1), last or all."
                )
            first, last = (i + n_layers if i < 0 else i for i in (int(match[1]), int(match[2] or match[1])))
            if not 0 <= first <= last < n_layers:
                raise EncoderError(
                    f"Found layers={self.text}; the encoder has the layers 0 to {n_layers - 1}, or -{n_layers} to -1."
                )
            indices += range(first, last + 1)
        return tuple(sorted(set(indices)))


@dataclass(frozen=True)
class Specification:
    """Identity of an encoder and the choice of its outputs that is stored.

    Attributes
    ----------
    name : str
        Short readable name: ``wav2vec2-base-960h``.
    modality : str
        Modality of the features.
    dim : int
        Number of values per vector.
    rate : float or None
        Vectors per second; None if it depends on the clip, and for one vector per clip.
    identity : mapping
        Everything that changes the values, except layers and pooling.
    layers : tuple of int
        Stored hidden states, counted from the first.
    how : {"apart", "sum", "mean"}
        Combination of the layers; ``apart`` for a single layer.
    pool : {"none", "mean"}
        Pooling over time.
    dtype : {"float16", "float32"}
        Number format on disk.
    """

    name: str
    modality: str
    dim: int
    rate: float | None
    identity: Mapping[str, Any]
    layers: tuple[int, ...]
    how: str
    pool: str
    dtype: str

    @property
    def key(self) -> str:
        """Readable name followed by a digest of everything that changes the values."""
        parts = [self.identity, self.layers, self.how, self.pool, self.dtype]
        text = json.dumps(parts, sort_keys=True)
        return f"{self.name}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"

    @property
    def n_layers(self) -> int | None:
        """Length of the layer axis on disk; None if there is no such axis."""
        return len(self.layers) if self.how == "apart" and len(self.layers) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Return the specification as shards store it."""
        return {**asdict(self), "layers": list(self.layers), "n_layers": self.n_layers}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Return the specification that a shard stores.

        Raises
        ------
        KeyError
            The features were not made by an encoder of affuse.
        """
        known = {name: stored[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "layers": tuple(stored["layers"])})
