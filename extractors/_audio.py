"""Base of all audio encoders: preparation of the waveform, mel spectra, and a forward pass clip by clip."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError
from ..tensors import Stream
from ._encoder import EncoderFamily, Media, Prepared, Sound, pad_sequences


class SoundEncoder(EncoderFamily):
    """Base of the audio encoders.

    A subclass defines `dim` and either `encode_clip` or, to encode several clips in one pass, `forward`.

    Attributes
    ----------
    sampling_rate : int
        Sampling rate of the waveform in Hz.
    min_samples : int
        Number of samples that one feature vector needs; shorter clips are reported as ``too_short``.
    normalise : bool
        Whether each clip is brought to zero mean and unit variance.
    """

    modality = "audio"
    sampling_rate: int = 16_000
    min_samples: int = 1
    normalise: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.inputs = Sound(self.sampling_rate)

    def prepare(self, media: Media) -> Prepared:
        return prepare_waveform(
            media, sampling_rate=self.sampling_rate, min_samples=self.min_samples, normalise=self.normalise
        )

    def forward(self, media: Stream) -> list[Stream]:
        return over_clips(media, self.encode_clip, self.dim)

    def encode_clip(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Encode one clip without padding.

        Parameters
        ----------
        samples : Tensor [shape=(samples,)]
            At least one sample.

        Returns
        -------
        values : Tensor [shape=(time, dim)]
        times : Tensor [shape=(time,)]
            Centre of each feature vector in seconds, on the CPU.
        """
        raise NotImplementedError


def prepare_waveform(media: Media, *, sampling_rate: int, min_samples: int = 1, normalise: bool = False) -> Prepared:
    """Return the samples of a clip and their times.

    Parameters
    ----------
    media : Media
        float32 samples of shape (samples,).
    sampling_rate : int
        Sampling rate in Hz.
    min_samples : int
        Smallest number of samples that can be encoded.
    normalise : bool
        Whether the clip is brought to zero mean and unit variance.

    Raises
    ------
    MediaError
        The clip has fewer than `min_samples` samples.
    """
    samples = media.values
    if len(samples) < min_samples:
        raise MediaError("too_short", "The sound of the clip is shorter than one step of the encoder.")
    if normalise:
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return Prepared(torch.tensor(samples, dtype=torch.float32), torch.arange(len(samples)) / sampling_rate)


def over_clips(media: Stream, encode: Callable[[Tensor], tuple[Tensor, Tensor]], dim: int) -> list[Stream]:
    """Encode clip by clip, each without its padding; see `SoundEncoder.encode_clip`."""
    rows, times = [], []
    for clip, n_samples in zip(media.values, media.mask.sum(1).tolist(), strict=True):
        values, clock = encode(clip[:n_samples]) if n_samples else (clip.new_zeros(0, dim), torch.zeros(0))
        rows.append(values.to(clip.device))
        times.append(clock)
    return [pad_sequences(rows, times)]


def n_steps(n_samples: Tensor, kernels: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Return the number of steps that a stack of convolutions without padding makes of so many samples."""
    for kernel, stride in zip(kernels, strides, strict=True):
        n_samples = ((n_samples - kernel) // stride + 1).clamp(min=0)
    return n_samples


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Return the number of samples that one step of a stack of convolutions depends on."""
    span, jump = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        span, jump = span + (kernel - 1) * jump, jump * stride
    return span


@cache
def mel_filters(sampling_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Return triangular filters of unit area on the mel scale of Slaney, shape (n_mels, 1 + n_fft // 2).

    Slaney, Auditory Toolbox (1998): linear below 1 kHz and logarithmic above, the default of librosa and Whisper.
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

    Samples of shape (…, samples) become (…, n_mels, 1 + samples // hop). With `reflect`, the signal is mirrored at its
    edges instead of padded with silence.
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
