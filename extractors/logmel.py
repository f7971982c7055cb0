"""Log-mel spectra and MFCC with deltas: what speech looked like before it was learned.

Davis & Mermelstein 1980 (IEEE TASSP 28(4)); deltas after Furui 1986: a regression over five frames.
The numbers are librosa's (centred windows, silence beyond the edges, dB without a floor by clip).
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ..errors import EncoderError
from ..tensors import Stream
from ._audio import waveform
from ._encoder import CheckpointInfo, Encoder, Media, Prepared, Sound, gathered
from ._mel import power_mel

N_FFT, HOP, SAMPLING_RATE = 400, 160, 16_000


class LogMel(Encoder):
    """Log-mel spectra in dB, or MFCC with first and second deltas; no weights.

    Parameters
    ----------
    kind : str
        ``logmel`` or ``mfcc``.
    n_mels : int
        Mel bands.
    n_mfcc : int
        Cepstral coefficients kept, with ``kind="mfcc"``.
    deltas : bool
        First and second differences over time behind the static coefficients.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "audio"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (
        CheckpointInfo("", "", 80, 100, 0, "none"),
        CheckpointInfo("logmel,kind=mfcc,deltas=true", "MFCC with deltas", 60, 100, 0, "none"),
    )

    def __init__(self, *, kind: str = "logmel", n_mels: int = 80, n_mfcc: int = 20, deltas: bool = False) -> None:
        super().__init__()
        if kind not in ("logmel", "mfcc"):
            raise EncoderError(f"logmel knows kind=logmel and kind=mfcc, found kind={kind}")
        self.kind, self.n_mels, self.n_mfcc, self.deltas = kind, n_mels, n_mfcc, deltas
        self.batching: Literal["mask", "equal", "single"] = "mask"
        self.dim = (n_mfcc if kind == "mfcc" else n_mels) * (3 if deltas else 1)
        self.n_layers = 1
        self.rate: float | None = SAMPLING_RATE / HOP
        self.inputs: Sound = Sound(SAMPLING_RATE)

    @classmethod
    def from_pretrained(
        cls, checkpoint: str = "", *, kind: str = "logmel", n_mels: int = 80, n_mfcc: int = 20, deltas: bool = False
    ) -> Self:
        """Make the descriptor; there is nothing to load."""
        return cls(kind=kind, n_mels=n_mels, n_mfcc=n_mfcc, deltas=deltas)

    @classmethod
    def untrained(
        cls, *, seed: int = 0, kind: str = "logmel", n_mels: int = 80, n_mfcc: int = 20, deltas: bool = False
    ) -> Self:
        """Make the descriptor; the seed changes nothing."""
        return cls(kind=kind, n_mels=n_mels, n_mfcc=n_mfcc, deltas=deltas)

    def identity(self) -> Mapping[str, Any]:
        return {
            "family": "logmel",
            "version": 1,
            "kind": self.kind,
            "n_mels": self.n_mels,
            "n_mfcc": self.n_mfcc if self.kind == "mfcc" else None,
            "deltas": self.deltas,
        }

    def prepare(self, media: Media) -> Prepared:
        return waveform(media, self.inputs, shortest=1)

    def forward(self, media: Stream) -> list[Stream]:
        rows = [self._described(row[: int(mask.sum())]) for row, mask in zip(media.values, media.mask, strict=True)]
        times = [torch.arange(len(row)) * HOP / SAMPLING_RATE for row in rows]
        return [gathered(rows, times)]

    def _described(self, samples: Tensor) -> Tensor:
        if len(samples) == 0:
            return samples.new_zeros(0, self.dim)
        power = power_mel(samples, sampling_rate=SAMPLING_RATE, n_fft=N_FFT, hop=HOP, n_mels=self.n_mels)
        static = 10 * power.clamp(min=1e-10).log10().T
        if self.kind == "mfcc":
            static = static @ cosines(self.n_mels, self.n_mfcc).to(static)
        if not self.deltas:
            return static
        first = regression(static)
        return torch.cat([static, first, regression(first)], dim=1)


def cosines(n_mels: int, n_mfcc: int) -> Tensor:
    """Return the orthonormal DCT-II, shape (n_mels, n_mfcc)."""
    angles = torch.outer(torch.arange(n_mels) + 0.5, torch.arange(n_mfcc)) * math.pi / n_mels
    basis = angles.cos() * math.sqrt(2 / n_mels)
    basis[:, 0] /= math.sqrt(2)
    return basis


def regression(frames: Tensor) -> Tensor:
    """Return each coefficient's slope over five frames, the edges repeated.

    Parameters
    ----------
    frames : Tensor [shape=(time, dim)]
    """
    edge = torch.cat([frames[:1], frames[:1], frames, frames[-1:], frames[-1:]])
    return (edge[3:-1] - edge[1:-3] + 2 * (edge[4:] - edge[:-4])) / 10


plugin = LogMel
