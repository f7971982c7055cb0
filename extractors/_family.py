"""Loading and identity that all built-in families of encoders share.

`FrameEncoder` (in ``_frames.py``) and `SoundEncoder` (in ``_audio.py``) build on it. The options of a family are the
keyword-only arguments of its constructor, as for every other plug-in.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ..errors import EncoderError
from ._encoder import Encoder, seeded


class EncoderFamily(Encoder):
    """Base of an encoder that stores its options first and loads or draws its weights afterwards.

    A subclass with weights defines `load` and `build_untrained`. Both set the network, `dim`, `n_layers` and whatever
    else depends on the weights. A subclass without weights sets ``has_weights = False`` and defines neither.

    Attributes
    ----------
    family : str
        Name of the family in the identity. It never changes, because it is part of the key of stored features.
    has_weights : bool
        False for descriptors that are computed by a formula.
    origin : dict of str to str
        Checkpoint and its revision, or the seed of random weights; part of the identity.
    """

    family: ClassVar[str]
    has_weights: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.batching, self.n_layers = "mask", 1
        self.origin: dict[str, str] = {}

    @classmethod
    def from_pretrained(cls, checkpoint: str = "", **options: Any) -> Self:
        """Construct the encoder with `options` and load its weights.

        Parameters
        ----------
        checkpoint : str
            ``org/name`` or ``org/name@revision`` on the Hugging Face Hub, or a local folder. Some families accept
            more; see their `load`.

        Raises
        ------
        EncoderError
            The checkpoint is missing, gated, unsafe, or belongs to another family.
        EnvironmentFailure
            The hub cannot be reached and the checkpoint is not on disk.
        """
        if cls.has_weights and not checkpoint:
            examples = " or ".join(info.request for info in cls.checkpoints[:2]) or f"{cls.family}:FOLDER"
            raise EncoderError(f"The encoder {cls.family} needs a checkpoint, for example {examples}.")
        encoder = cls(**options)
        encoder.load(checkpoint)
        return encoder

    @classmethod
    def untrained(cls, *, seed: int = 0, **options: Any) -> Self:
        """Construct a tiny encoder of the family; its random weights depend on `seed` only."""
        with seeded(seed):
            encoder = cls(**options)
            encoder.build_untrained(seed)
        if cls.has_weights:
            encoder.origin = {"untrained": str(seed)}
        return encoder

    def load(self, checkpoint: str) -> None:
        """Load frozen weights and set `origin`; the errors are those of `from_pretrained`."""

    def build_untrained(self, seed: int) -> None:
        """Build a tiny network. Torch's random numbers already depend on `seed`."""

    def identity(self) -> Mapping[str, Any]:
        return {"family": self.family, "version": 1, **self.origin}
