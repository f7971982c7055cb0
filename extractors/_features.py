"""What is kept of an encoder, and the key that names it; free of torch, for a quick rerun."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from ..errors import EncoderError


@dataclass(frozen=True)
class Layers:
    """Which hidden states to keep, and how: ``last``, ``-5``, ``-4:-1``, ``all``.

    Attributes
    ----------
    text : str
        A layer index, a list ``-5+-1`` joined by ``+``, a range ``-4:-1`` with both ends, ``last``
        or ``all``; index 0 is the first hidden state.
    how : str
        ``sum`` or ``mean`` over the chosen layers, or ``apart``.
    pool : str
        ``none`` keeps time; ``mean`` keeps one vector a clip.
    """

    text: str = "last"
    how: Literal["sum", "mean", "apart"] = "apart"
    pool: Literal["none", "mean"] = "none"

    def indices(self, n_layers: int) -> tuple[int, ...]:
        """Return the chosen hidden states, counted from the first.

        Raises
        ------
        EncoderError
            Not a choice of layers, or one that the encoder does not have.

        >>> Layers("-4:-1").indices(13)
        (9, 10, 11, 12)
        """
        if self.text == "all":
            return tuple(range(n_layers))
        chosen: list[int] = []
        for part in self.text.replace("last", "-1").split("+"):
            match = re.fullmatch(r"(-?\d+)(?::(-?\d+))?", part)
            if not match:
                raise EncoderError(f"layers={self.text} is no choice of layers; wanted last, all, -5, -4:-1 or -5+-1")
            first, final = int(match[1]), int(match[2] or match[1])
            ends = [i + n_layers if i < 0 else i for i in (first, final)]
            if not 0 <= ends[0] <= ends[1] < n_layers:
                raise EncoderError(
                    f"layers={self.text}: the encoder has the layers 0 to {n_layers - 1}, or -{n_layers} to -1"
                )
            chosen += range(ends[0], ends[1] + 1)
        return tuple(sorted(set(chosen)))


@dataclass(frozen=True)
class Specification:
    """An encoder's identity, what is kept of it, and the key that both make.

    Attributes
    ----------
    name : str
        Short and readable: ``wav2vec2-base-960h``.
    modality : str
    dim : int
    rate : float or None
        Vectors a second; None where it depends on the clip, and for one vector a clip.
    identity : dict
        Everything that changes the numbers, layers and pooling apart.
    layers : tuple of int
        Hidden states that are kept, counted from the first.
    how : str
        ``sum``, ``mean`` or ``apart``; ``apart`` where there is one.
    pool : str
        ``none`` or ``mean``.
    dtype : str
        ``float16`` or ``float32``, as stored.
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
        """Readable name and a digest of everything that changes the numbers."""
        facts = [self.identity, self.layers, self.how, self.pool, self.dtype]
        text = json.dumps(facts, sort_keys=True)
        return f"{self.name}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"

    @property
    def n_layers(self) -> int | None:
        """Length of the layer axis as stored; None where there is no such axis."""
        return len(self.layers) if self.how == "apart" and len(self.layers) > 1 else None

    def facts(self) -> dict[str, Any]:
        """Return what a shard says about its features."""
        return {**asdict(self), "layers": list(self.layers), "n_layers": self.n_layers}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """Return the specification that a shard tells."""
        known = {name: facts[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "layers": tuple(facts["layers"])})
