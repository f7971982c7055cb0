"""The contract of an encoder: media in, features out.

An encoder says what it wants to see or hear (`Sound`, `Frames`), so that one decode of a clip
serves all encoders asked for; prepares it exactly as its checkpoint was trained; and turns a batch
of media into a batch of layers in one forward pass.
"""

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..media.inputs import Frames as Frames
from ..media.inputs import Media as Media
from ..media.inputs import Sound as Sound
from ..tensors import Stream
from ._features import Layers as Layers
from ._features import Specification as Specification


class Prepared(NamedTuple):
    """One clip as the network takes it.

    Attributes
    ----------
    values : Tensor
        First axis is time (samples, frames or windows).
    times : Tensor [shape=(first axis,)]
    """

    values: Tensor
    times: Tensor


class CheckpointInfo(NamedTuple):
    """A line of `affuse list encoders`: a well-known checkpoint, told without a download.

    Attributes
    ----------
    request : str
        What to write after ``-e``; empty for the family itself, where it has no weights.
    summary : str
        What it is known for; empty where the family's own line says it.
    dim : int or None
    rate : float or None
        Feature vectors a second, at the family's default sampling; None: one a clip.
    parameters : int or None
        Of the part that affuse runs, in millions.
    licence : str
        Of the weights, as their publisher states it.
    """

    request: str
    summary: str
    dim: int | None
    rate: float | None
    parameters: int | None
    licence: str

    def row(self) -> dict[str, str]:
        """Return the columns of the table."""
        rate = f"{self.rate:g} Hz" if self.rate else "a clip"
        return {
            "dimension": str(self.dim or ""),
            "rate": rate if self.dim else "",
            "parameters": f"{self.parameters} M" if self.parameters else "",
            "licence": self.licence,
            "about": self.summary,
        }


class Encoder(nn.Module):
    """Base of every encoder.

    A subclass is one file in extractors/, ending in ``plugin = TheClass``. Its docstring's first
    line shows in `affuse list encoders`. Constructors store: weights are loaded by
    `from_pretrained` or made by `untrained`.

    Attributes
    ----------
    modality : str
        ``audio`` or ``visual``.
    checkpoints : tuple of CheckpointInfo
        Well-known checkpoints of the family.
    batching : str
        How clips may share a forward pass without changing each other's features: ``mask`` (any
        lengths, padded behind), ``equal`` (equal lengths only), ``single``.
    dim : int
        Width of a feature vector.
    n_layers : int
        Hidden states that one forward pass yields; the last is `n_layers` - 1.
    rate : float or None
        Feature vectors a second; None where it depends on the clip.
    inputs : Sound or Frames
    """

    modality: ClassVar[Literal["audio", "visual"]]
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = ()
    batching: Literal["mask", "equal", "single"]
    dim: int
    n_layers: int
    rate: float | None
    inputs: Sound | Frames

    @classmethod
    def catalogue(cls) -> list[dict[str, str]]:
        """Return the family's lines of `affuse list encoders`: its own, then its checkpoints'."""
        modality = getattr(cls, "modality", "either")
        about = (inspect.getdoc(cls) or "").partition("\n")[0]
        own = CheckpointInfo("", about, None, None, None, "").row()
        if cls.checkpoints and not cls.checkpoints[0].request:
            own = cls.checkpoints[0].row() | {"about": about}
        others = [{"name": f.request} | f.row() for f in cls.checkpoints if f.request]
        return [{"modality": modality} | row for row in (own, *others)]

    @classmethod
    @abstractmethod
    def from_pretrained(cls, checkpoint: str, *args: Any, **options: Any) -> Self:
        """Load frozen weights from the hub (``org/name@revision``) or a local folder.

        A family's options are the keyword-only arguments of its own `from_pretrained`, so that
        `plugins.options(Family.from_pretrained)` lists them; `untrained` takes the same and a seed.

        Raises
        ------
        EncoderError
            Missing, gated, unsafe, or of another family; the message says what to do.
        EnvironmentFailure
            The hub cannot be reached and nothing is on disk.
        """

    @classmethod
    @abstractmethod
    def untrained(cls, *args: Any, **options: Any) -> Self:
        """Make a tiny encoder of the family with random weights drawn by ``seed=0``."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return everything that changes the numbers, layers and pooling apart.

        Family, checkpoint, its resolved commit (or a digest of a local folder's files), frame
        sampling, windows, crop, precision, version of our own preprocessing.
        """

    @abstractmethod
    def prepare(self, media: Media) -> Prepared:
        """Preprocess one clip exactly as the checkpoint's own processor does.

        Raises
        ------
        MediaError
            Too short for the encoder.
        """

    @abstractmethod
    def forward(self, media: Stream) -> list[Stream]:
        """Encode a batch, differentiable.

        Parameters
        ----------
        media : Stream
            Prepared clips, padded behind; `values` of shape (batch, time, …).

        Returns
        -------
        list of Stream
            One a layer, `n_layers` of them, each of shape (batch, time, dim) with mask and times.
        """


def gathered(values: Sequence[Tensor], times: Sequence[Tensor]) -> Stream:
    """Pad clips of any lengths into a stream.

    Parameters
    ----------
    values : sequence of Tensor [shape=(time, …)]
    times : sequence of Tensor [shape=(time,)]
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
    """Draw random weights by a seed, and leave torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
