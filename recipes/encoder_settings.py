"""Sections of a recipe that start a stream from media: ``[encoders.NAME]``, ``[augmentation]``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .. import plugins
from ..errors import AffuseError, suggestion
from ..extractors._features import Layers
from ..extractors._request import Request

LAST = re.compile(r"last ([1-9]\d*) layers?")
UNTRAINED = "untrained"
PRETRAINED_RATE = 1e-5


@dataclass(frozen=True)
class EncoderSettings:
    """The encoder of one stream and how much of it learns: ``[encoders.audio]``.

    Attributes
    ----------
    name : str
        An encoder's family, as before the colon in ``affuse extract -e``.
    checkpoint : str
        On the hub or a folder; ``untrained``: random weights drawn by the run's seed.
    layers, how, pool : str
        Which hidden states, as in ``affuse extract -e``.
    train : str
        ``none``, ``all``, ``last 4 layers``, or ``lora``.
    learning_rate : float
        0: 1e-5 for a checkpoint; the recipe's own for random weights.
    layer_decay : float
        Each layer further from the end learns so many times as fast.
    rank : int
        Of the LoRA matrices (Hu et al., ICLR 2022).
    checkpointing : bool
        Compute activations twice instead of keeping them: less memory, a third more time.
    options : dict
        The encoder's own.
    """

    name: str = ""
    checkpoint: str = UNTRAINED
    layers: str = "last"
    how: Literal["sum", "mean", "apart"] = "apart"
    pool: Literal["none", "mean"] = "none"
    train: str = "none"
    learning_rate: float = 0.0
    layer_decay: float = 1.0
    rank: int = 8
    checkpointing: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def request(self) -> Request:
        """What ``affuse extract -e`` would be asked for the same features."""
        layers = Layers(self.layers, self.how, self.pool)
        return Request(self.name, self.checkpoint, dict(self.options), layers)

    @property
    def n_last(self) -> int | None:
        """So many layers learn; None where it is not the last ones."""
        match = LAST.fullmatch(self.train)
        return int(match[1]) if match else None

    def rate(self, otherwise: float) -> float:
        """Return the learning rate of the last layer; `otherwise` is the recipe's."""
        if self.learning_rate:
            return self.learning_rate
        return otherwise if self.checkpoint == UNTRAINED else PRETRAINED_RATE

    def faults(self, stream: str) -> list[str]:
        """Return what is wrong, in words."""
        where = f"encoders.{stream}"
        found = []
        if self.train not in ("none", "all", "lora") and self.n_last is None:
            found.append(f"{where}.train = {self.train!r}; wanted none, all, lora or 'last 4 layers'")
        if not 0 < self.layer_decay <= 1:
            found.append(f"{where}.layer_decay = {self.layer_decay}; wanted above 0, at most 1")
        if self.rank < 1 or self.learning_rate < 0:
            found.append(f"{where}: wanted a rank above 0 and no negative learning_rate")
        try:
            family = plugins.find("encoder", self.name)
            random = self.checkpoint == UNTRAINED
            known = plugins.options(family.untrained if random else family.from_pretrained)
        except AffuseError as error:
            return [*found, f"{where}.name: {error}"]
        for not_said_here in ("seed", "allow_pickle"):  # a recipe may come from a stranger
            known.pop(not_said_here, None)
        if stream.partition(":")[0] != family.modality:
            found.append(
                f"{where}: {self.name} hears or sees {family.modality}; a stream's name "
                f"begins with its modality, such as '{family.modality}'"
            )
        found += [
            f"{where}: {self.name} takes no {key!r}; {suggestion(key, known)}"
            for key in self.options
            if key not in known
        ]
        return found


@dataclass(frozen=True)
class AugmentationSettings:
    """What happens to media while training, nothing by default: ``[augmentation]``.

    Attributes
    ----------
    crop : float
        Seconds of a random stretch, the same of sound and pictures; 0: whole clips.
    flip : float
        Share of the clips whose pictures are mirrored.
    snr : tuple of float
        Lowest and highest decibels of added noise, drawn in whole steps; empty: none.
    blur : tuple of int
        Factors to draw from, 1 being sharp: pictures are halved and doubled so often.
    time_mask : float
        Share of a clip that is silent, and black at another time.
    """

    crop: float = 0.0
    flip: float = 0.0
    snr: tuple[float, ...] = ()
    blur: tuple[int, ...] = ()
    time_mask: float = 0.0

    def faults(self) -> list[str]:
        """Return what is out of range, in words."""
        found = [
            f"augmentation.{name} = {value}; wanted a share, from 0 to 1"
            for name, value in (("flip", self.flip), ("time_mask", self.time_mask))
            if not 0 <= value <= 1
        ]
        if self.crop < 0:
            found.append(f"augmentation.crop = {self.crop}; wanted seconds, or 0")
        if self.snr and (len(self.snr) != 2 or self.snr[0] > self.snr[1]):
            found.append(f"augmentation.snr = {list(self.snr)}; wanted [lowest, highest] decibels")
        if any(factor not in (1, 2, 4, 8) for factor in self.blur):
            found.append(f"augmentation.blur = {list(self.blur)}; wanted factors of 1, 2, 4 or 8")
        return found
