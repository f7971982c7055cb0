"""The contract of an encoder: media in, features out.

An encoder declares the media that it takes (`Sound` or `Frames`), so that one decoding of a clip
serves all encoders. It prepares the media exactly as its checkpoint was trained, and turns a batch
of media into one batch of features per layer in one forward pass.
"""

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..errors import EncoderError
from ..media.inputs import Frames as Frames
from ..media.inputs import Media as Media
from ..media.inputs import Sound as Sound
from ..tensors import Stream
from ._request import Layers as Layers
from ._request import Specification as Specification


class Prepared(NamedTuple):
    """One clip as the network takes it.

    Attributes
    ----------
    values : Tensor
        Input of the network; the first axis is time (samples, frames or windows).
    times : Tensor [shape=(first axis of values,)]
        Seconds from the start of the media.
    """

    values: Tensor
    times: Tensor


class CheckpointInfo(NamedTuple):
    """Facts about a well-known checkpoint, shown by `affuse list encoders` without a download.

    Attributes
    ----------
    request : str
        Request of the checkpoint; empty for the family itself, where it has no weights.
    summary : str
        Short description; empty where the description of the family is sufficient.
    dim : int or None
        Number of values per vector.
    rate : float or None
        Vectors per second with the default options; None for one vector per clip.
    parameters : int or None
        Number of parameters that affuse runs, in millions.
    licence : str
        Licence of the weights, as stated by their publisher.
    """

    request: str
    summary: str
    dim: int | None
    rate: float | None
    parameters: int | None
    licence: str

    def row(self) -> dict[str, str]:
        """Return the columns of the table."""
        rate = f"{self.rate:g} Hz" if self.rate else "per clip"
        return {
            "dimension": str(self.dim or ""),
            "rate": rate if self.dim else "",
            "parameters": f"{self.parameters} M" if self.parameters else "",
            "licence": self.licence,
            "about": self.summary,
        }


class Encoder(nn.Module):
    """Base of every encoder.

    A subclass is one file in extractors/ that ends in ``plugin = TheClass``. The first line of its
    docstring is shown by `affuse list encoders`. Its constructor only stores: weights are loaded by
    `from_pretrained` or drawn by `untrained`.

    Attributes
    ----------
    modality : str
        Modality of the features, one lower-case word such as ``audio``, ``visual`` or ``text``.
    checkpoints : tuple of CheckpointInfo
        Well-known checkpoints of the family.
    batching : {"mask", "equal", "single"}
        Clips that may share a forward pass without changing the features of each other: clips of
        any length, padded at the end; clips of equal length; or none.
    dim : int
        Number of values per vector.
    n_layers : int
        Number of hidden states of a forward pass.
    rate : float or None
        Vectors per second; None if it depends on the clip.
    inputs : Sound or Frames
        Media that the encoder takes.
    """

    modality: ClassVar[str]
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = ()
    batching: Literal["mask", "equal", "single"]
    dim: int
    n_layers: int
    rate: float | None
    inputs: Sound | Frames

    @classmethod
    def catalogue(cls) -> list[dict[str, str]]:
        """Return the rows of `affuse list encoders`: the family, then its checkpoints."""
        modality = getattr(cls, "modality", "either")
        about = (inspect.getdoc(cls) or "").partition("\n")[0]
        own = CheckpointInfo("", about, None, None, None, "").row()
        if cls.checkpoints and not cls.checkpoints[0].request:
            own = cls.checkpoints[0].row() | {"about": about}
        others = [{"name": info.request} | info.row() for info in cls.checkpoints if info.request]
        return [{"modality": modality} | row for row in (own, *others)]

    @classmethod
    @abstractmethod
    def from_pretrained(cls, checkpoint: str, *args: Any, **options: Any) -> Self:
        """Load frozen weights from the hub (``org/name@revision``) or a local folder.

        The options of a family are the keyword-only arguments of its `from_pretrained`, see
        `plugins.options`; `untrained` takes the same options and a seed.

        Raises
        ------
        EncoderError
            The checkpoint is missing, gated, unsafe, or belongs to another family.
        EnvironmentFailure
            The hub cannot be reached and the checkpoint is not on disk.
        """

    @classmethod
    @abstractmethod
    def untrained(cls, *args: Any, **options: Any) -> Self:
        """Return a tiny encoder of the family with random weights, drawn with ``seed=0``."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return everything that changes the values, except layers and pooling.

        This includes the family, the checkpoint with its commit (or a digest of the files of a
        local folder), frame sampling, windows, crop, and the version of the preprocessing of affuse.
        """

    @abstractmethod
    def prepare(self, media: Media) -> Prepared:
        """Preprocess one clip exactly as the processor of the checkpoint does.

        Raises
        ------
        MediaError
            The clip is too short for the encoder.
        """

    @abstractmethod
    def forward(self, media: Stream) -> list[Stream]:
        """Encode a batch; gradients flow through it.

        Parameters
        ----------
        media : Stream
            Prepared clips, padded at the end; `values` of shape (batch, time, …).

        Returns
        -------
        list of Stream
            One per layer, `n_layers` in total, each of shape (batch, time, dim).
        """


def pad_sequences(values: Sequence[Tensor], times: Sequence[Tensor]) -> Stream:
    """Return clips of any lengths as one stream, padded at the end.

    Parameters
    ----------
    values : sequence of Tensor [shape=(time, …)]
        Values of each clip.
    times : sequence of Tensor [shape=(time,)]
        Times of each clip in seconds.
    """
    lengths = torch.tensor([len(v) for v in values], device=values[0].device)
    longest = max(1, int(lengths.max()))
    padded = pad_sequence(list(values), batch_first=True)
    clock = pad_sequence(list(times), batch_first=True, padding_value=torch.nan)
    if padded.shape[1] == 0:
        padded = padded.new_zeros(len(values), 1, *padded.shape[2:])
        clock = clock.new_full((len(values), 1), torch.nan)
    steps = torch.arange(longest, device=lengths.device)
    return Stream(padded, steps[None] < lengths[:, None], clock.to(lengths.device))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generator of torch for a while, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


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
        """Construct the encoder with `options` and load its weights; see `Encoder.from_pretrained`.

        Some families accept more than a name on the hub and a local folder as checkpoint; see their `load`.
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
