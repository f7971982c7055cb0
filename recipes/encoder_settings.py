"""Sections of a recipe for training from media: ``[encoders.NAME]`` and ``[augmentation]``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .. import plugins
from ..errors import AffuseError, suggestion
from ..plugins import modality_of

if TYPE_CHECKING:
    from ..extractors._request import Request

LAST_LAYERS = re.compile(r"last ([1-9]\d*) layers?")
UNTRAINED = "untrained"
PRETRAINED_LEARNING_RATE = 1e-5


@dataclass(frozen=True)
class EncoderSettings:
    """Section ``[encoders.audio]``: the encoder of one stream and its fine-tuning.

    Attributes
    ----------
    name : str
        Name of the encoder family, as before the colon in ``affuse extract -e``.
    checkpoint : str
        Checkpoint on the hub or in a folder; ``untrained``: random weights drawn with the seed of the run.
    layers, how, pool : str
        Choice and pooling of hidden states, as in ``affuse extract -e``.
    train : str
        Weights that are trained: ``none``, ``all``, ``last 4 layers`` (any number) or ``lora``.
    learning_rate : float
        Learning rate of the last layer; 0: 1e-5 for a checkpoint, ``training.learning_rate`` for random weights.
    layer_decay : float
        Factor of the learning rate from each layer to the one before it, above 0 and up to 1.
    rank : int
        Rank of the LoRA matrices (Hu et al., ICLR 2022).
    checkpointing : bool
        Whether activations are computed twice instead of stored: less memory, a third more time.
    options : dict
        Further options of the encoder.
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
    def request(self) -> "Request":
        """Request for the same features in ``affuse extract -e``."""
        # Loaded here, so that recipes without encoders load no media package.
        from ..extractors._request import Layers, Request

        layers = Layers(self.layers, self.how, self.pool)
        return Request(self.name, self.checkpoint, dict(self.options), layers)

    @property
    def n_last_layers(self) -> int | None:
        """Number of layers in ``train = "last 4 layers"``; None for any other value."""
        match = LAST_LAYERS.fullmatch(self.train)
        return int(match[1]) if match else None

    def learning_rate_or(self, default: float) -> float:
        """Return the learning rate of the last layer; `default` is that of the recipe."""
        if self.learning_rate:
            return self.learning_rate
        return default if self.checkpoint == UNTRAINED else PRETRAINED_LEARNING_RATE

    def problems(self, stream: str) -> list[str]:
        """Return a message for every value that is unknown or out of range, for the stream of this name."""
        section = f"encoders.{stream}"
        found = []
        if self.train not in ("none", "all", "lora") and self.n_last_layers is None:
            found.append(f"Found {section}.train = {self.train!r}, expected none, all, lora or 'last 4 layers'.")
        if not 0 < self.layer_decay <= 1:
            found.append(f"Found {section}.layer_decay = {self.layer_decay}, expected above 0 and at most 1.")
        if self.rank < 1:
            found.append(f"Found {section}.rank = {self.rank}, expected at least 1.")
        if self.learning_rate < 0:
            found.append(f"Found {section}.learning_rate = {self.learning_rate}, expected no negative number.")
        try:
            family = plugins.find("encoder", self.name)
            random = self.checkpoint == UNTRAINED
            known = plugins.options(family.untrained if random else family.from_pretrained)
        except AffuseError as error:
            return [*found, f"{section}.name: {error}"]
        # A recipe may come from an untrusted source, and the seed is that of the run.
        known = {option: default for option, default in known.items() if option not in ("seed", "allow_pickle")}
        if modality_of(stream) != family.modality:
            found.append(
                f"{section}: {self.name} is an encoder of the modality {family.modality}, and the name of a stream "
                f"begins with its modality. Call the section [encoders.{family.modality}]."
            )
        return found + [
            f"{section}: {self.name} has no option {key!r}; {suggestion(key, known)}"
            for key in self.options
            if key not in known
        ]


@dataclass(frozen=True)
class AugmentationSettings:
    """Section ``[augmentation]``: random changes of media in training, none by default.

    Attributes
    ----------
    crop : float
        Duration of a random excerpt in seconds, the same for audio and video; 0: whole clips.
    flip : float
        Share of the clips whose frames are mirrored.
    snr : tuple of float
        Lowest and highest signal-to-noise ratio of added noise in decibels, drawn in whole steps; empty: no noise.
    blur : tuple of int
        Factors to draw from: frames are reduced by the factor and enlarged again; 1 leaves them sharp.
    time_mask : float
        Share of a clip that is silenced, and blackened at another time.
    """

    crop: float = 0.0
    flip: float = 0.0
    snr: tuple[float, ...] = ()
    blur: tuple[int, ...] = ()
    time_mask: float = 0.0

    def problems(self) -> list[str]:
        """Return a message for every value that is out of range."""
        found = [
            f"Found augmentation.{name} = {value}, expected a share from 0 to 1."
            for name, value in (("flip", self.flip), ("time_mask", self.time_mask))
            if not 0 <= value <= 1
        ]
        if self.crop < 0:
            found.append(f"Found augmentation.crop = {self.crop}, expected a number of seconds, or 0.")
        if self.snr and (len(self.snr) != 2 or self.snr[0] > self.snr[1]):
            found.append(f"Found augmentation.snr = {list(self.snr)}, expected [lowest, highest] decibels.")
        if any(factor not in (1, 2, 4, 8) for factor in self.blur):
            found.append(f"Found augmentation.blur = {list(self.blur)}, expected factors of 1, 2, 4 or 8.")
        return found
