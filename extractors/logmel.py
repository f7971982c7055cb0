"""Log-mel spectra and MFCC with deltas: the usual inputs of speech recognition before features were learned.

Davis & Mermelstein 1980 (IEEE TASSP 28(4)); deltas after Furui 1986, a regression over five frames. The values are
those of librosa with centred windows, silence beyond the edges, and decibels without a floor per clip.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import EncoderError
from ._audio import SoundEncoder, power_mel
from ._encoder import CheckpointInfo

N_FFT, HOP = 400, 160


class LogMel(SoundEncoder):
    """Log-mel spectra in dB, or MFCC with first and second deltas; no weights.

    Parameters
    ----------
    kind : str
        ``logmel`` or ``mfcc``.
    n_mels : int
        Number of mel bands.
    n_mfcc : int
        Number of cepstral coefficients with ``kind="mfcc"``.
    deltas : bool
        Whether first and second differences over time are appended.
    """

    family = "logmel"
    has_weights = False
    rate: float = SoundEncoder.sampling_rate / HOP
    checkpoints = (
        CheckpointInfo("", "", 80, 100, 0, "none"),
        CheckpointInfo("logmel,kind=mfcc,deltas=true", "MFCC with deltas", 60, 100, 0, "none"),
    )

    def __init__(self, *, kind: str = "logmel", n_mels: int = 80, n_mfcc: int = 20, deltas: bool = False) -> None:
        super().__init__()
        if kind not in ("logmel", "mfcc"):
            raise EncoderError(f"Found kind={kind}. The encoder logmel has kind=logmel and kind=mfcc.")
        self.kind, self.n_mels, self.n_mfcc, self.deltas = kind, n_mels, n_mfcc, deltas
        self.dim = (n_mfcc if kind == "mfcc" else n_mels) * (3 if deltas else 1)

    def identity(self) -> Mapping[str, Any]:
        n_mfcc = self.n_mfcc if self.kind == "mfcc" else None
        own = {"kind": self.kind, "n_mels": self.n_mels, "n_mfcc": n_mfcc, "deltas": self.deltas}
        return {**super().identity(), **own}

    def encode_clip(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        power = power_mel(samples, sampling_rate=self.sampling_rate, n_fft=N_FFT, hop=HOP, n_mels=self.n_mels)
        values = 10 * power.clamp(min=1e-10).log10().T
        if self.kind == "mfcc":
            values = values @ cosines(self.n_mels, self.n_mfcc).to(values)
        if self.deltas:
            first = regression(values)
            values = torch.cat([values, first, regression(first)], dim=1)
        return values, torch.arange(len(values)) * HOP / self.sampling_rate


def cosines(n_mels: int, n_mfcc: int) -> Tensor:
    """Return the basis of the orthonormal DCT-II, shape (n_mels, n_mfcc)."""
    angles = torch.outer(torch.arange(n_mels) + 0.5, torch.arange(n_mfcc)) * math.pi / n_mels
    basis = angles.cos() * math.sqrt(2 / n_mels)
    basis[:, 0] /= math.sqrt(2)
    return basis


def regression(frames: Tensor) -> Tensor:
    """Return the slope of each coefficient over five frames (time, dim); the edges are repeated."""
    edge = torch.cat([frames[:1], frames[:1], frames, frames[-1:], frames[-1:]])
    return (edge[3:-1] - edge[1:-3] + 2 * (edge[4:] - edge[:-4])) / 10


plugin = LogMel
