"""Mel filters and mel power spectra in torch, shared by the descriptors and Whisper."""

from functools import cache

import numpy as np
import torch
from torch import Tensor


@cache
def mel_filters(sampling_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Return triangular filters of unit area on the mel scale of Slaney.

    Slaney, Auditory Toolbox (1998): linear below 1 kHz and logarithmic above, the default of librosa and Whisper.

    Returns
    -------
    Tensor [shape=(n_mels, 1 + n_fft // 2)]
    """
    hertz = np.linspace(0, sampling_rate / 2, 1 + n_fft // 2)
    edges = _mel_to_hertz(np.linspace(0, _hertz_to_mel(sampling_rate / 2), n_mels + 2))
    slopes = edges[:, None] - hertz[None]
    widths = np.diff(edges)[:, None]
    filters = np.maximum(0, np.minimum(-slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]))
    filters *= 2 / (edges[2:] - edges[:-2])[:, None]
    return torch.from_numpy(filters.astype(np.float32))


def power_mel(
    samples: Tensor, *, sampling_rate: int, n_fft: int, hop: int, n_mels: int, reflect: bool = False
) -> Tensor:
    """Return mel power spectra with a Hann window centred on every `hop`-th sample.

    Parameters
    ----------
    samples : Tensor [shape=(…, samples)]
    sampling_rate : int
        Sampling rate in Hz.
    n_fft, hop : int
        Length of the window and of the step in samples.
    n_mels : int
        Number of mel bands.
    reflect : bool
        Whether the signal is mirrored at its edges instead of padded with silence.

    Returns
    -------
    Tensor [shape=(…, n_mels, 1 + samples // hop)]
    """
    spectrum = torch.stft(
        samples,
        n_fft,
        hop,
        window=torch.hann_window(n_fft, dtype=samples.dtype, device=samples.device),
        pad_mode="reflect" if reflect else "constant",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return mel_filters(sampling_rate, n_fft, n_mels).to(power) @ power


_LINEAR = 200 / 3
_LOG_STEP = np.log(6.4) / 27


def _hertz_to_mel(hertz: float) -> float:
    if hertz < 1000:
        return hertz / _LINEAR
    return 1000 / _LINEAR + float(np.log(hertz / 1000)) / float(_LOG_STEP)


def _mel_to_hertz(mel: np.ndarray) -> np.ndarray:
    knee = 1000 / _LINEAR
    bent = 1000 * np.exp(_LOG_STEP * np.maximum(mel - knee, 0))
    return np.asarray(np.where(mel < knee, mel * _LINEAR, bent))
