"""The contract of an encoder: media in, features out.

An encoder says what it wants to see or hear (`Sound`, `Frames`), so that one decode of a clip
serves all encoders asked for; prepares it exactly as its checkpoint was trained; and turns a batch
of media into a batch of layers in one forward pass.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..cache.batch import Stream


@dataclass(frozen=True)
class Sound:
    """What an audio encoder wants: the clip's sound, mono, float32 in -1..1.

    Attributes
    ----------
    sampling_rate : int
        Hertz.
    """

    sampling_rate: int = 16_000


@dataclass(frozen=True)
class Frames:
    """What a visual encoder wants: RGB frames, uint8, of one size.

    Attributes
    ----------
    fps : float or None
        Frames a second, each the one on screen at the centre of its step; exclusive with `count`.
    count : int or None
        So many frames, spread evenly over the clip.
    size : int or None
        Shorter side after resizing; None: as decoded.
    crop_size : int or None
        Side of the square cut from the centre; None: none.
    resample : str
        ``bicubic``, ``bilinear`` or ``area``, antialiased as Pillow does it.
    squash : bool
        Both sides become `size` whatever the shape of the picture.
    crop : str
        ``none`` for the whole picture, ``face`` for the clip's face box.
    """

    fps: float | None = None
    count: int | None = None
    size: int | None = None
    crop_size: int | None = None
    resample: Literal["bicubic", "bilinear", "area"] = "bicubic"
    squash: bool = False
    crop: Literal["none", "face"] = "none"


class Media(NamedTuple):
    """What a clip gives one encoder.

    Attributes
    ----------
    values : ndarray
        Samples, float32, shape (samples,); or frames, uint8, shape (frames, height, width, 3).
    times : ndarray [shape=(samples,) or (frames,)]
        Centre of each frame, seconds from the clip's start; empty for sound, whose time is its
        index over the sampling rate.
    duration : float
        Seconds of the clip that were asked for and exist.
    """

    values: np.ndarray
    times: np.ndarray
    duration: float


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


class Facts(NamedTuple):
    """A line of `affuse list encoders`: a well-known checkpoint, told without a download.

    Attributes
    ----------
    request : str
        What to write after ``-e``.
    summary : str
        What it is known for; empty where the family's own line says it.
    dim : int
    rate : float or None
        Feature vectors a second, at the family's default sampling.
    parameters : int
        Of the part that affuse runs, in millions.
    licence : str
        Of the weights, as their publisher states it.
    """

    request: str
    summary: str
    dim: int
    rate: float | None
    parameters: int
    licence: str


class Encoder(nn.Module):
    """Base of every encoder.

    A subclass is one file in extractors/, ending in ``plugin = TheClass``. Its docstring's first
    line shows in `affuse list encoders`. Constructors store: weights are loaded by
    `from_pretrained` or made by `untrained`.

    Attributes
    ----------
    modality : str
        ``audio`` or ``visual``.
    facts : tuple of Facts
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
    wants : Sound or Frames
    """

    modality: ClassVar[Literal["audio", "visual"]]
    facts: ClassVar[tuple[Facts, ...]] = ()
    batching: Literal["mask", "equal", "single"]
    dim: int
    n_layers: int
    rate: float | None
    wants: Sound | Frames

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
    steps = torch.arange(int(lengths.max()), device=lengths.device)
    return Stream(
        pad_sequence(list(values), batch_first=True),
        steps[None] < lengths[:, None],
        pad_sequence(list(times), batch_first=True, padding_value=torch.nan).to(lengths.device),
    )


@dataclass(frozen=True)
class Layers:
    """Which hidden states to keep, and how: ``last``, ``-5``, ``-4:-1``, ``all``.

    Attributes
    ----------
    text : str
        A layer index, a list ``-5,-1`` joined by ``+``, a range ``-4:-1`` with both ends, ``last``
        or ``all``; index 0 is the first hidden state.
    how : str
        ``sum`` or ``mean`` over the chosen layers, or ``apart``.
    pool : str
        ``none`` keeps time; ``mean`` keeps one vector a clip.
    """

    text: str = "last"
    how: Literal["sum", "mean", "apart"] = "apart"
    pool: Literal["none", "mean"] = "none"


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
    identity : dict
    layers : Layers
    dtype : str
        ``float16`` or ``float32``, as stored.
    """

    name: str
    modality: str
    dim: int
    rate: float | None
    identity: dict[str, Any]
    layers: Layers
    dtype: str

    @property
    def key(self) -> str:
        """Readable name and a digest of everything that changes the numbers."""
        text = json.dumps(
            [self.identity, vars(self.layers), self.dtype], sort_keys=True, default=str
        )
        return f"{self.name}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def digest_of(folder: Path) -> str:
    """Return a digest of a local checkpoint's files, names and contents."""
    digest = hashlib.blake2b(digest_size=20)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
