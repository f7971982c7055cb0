"""The encoder of Whisper (Radford et al., ICML 2023): its hidden states, one every 20 ms, not those of the decoder.

The model was trained on windows of 30 s that are padded with silence. Clips are therefore padded to 30 s and encoded,
and the states are cut to the length of the clip; longer clips are split into windows of 30 s. ``window="exact"`` does
not pad. It is an order of magnitude faster on short clips and gives different features; it is our addition.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EncoderError, EnvironmentFailure
from ..tensors import Stream
from ._audio import SoundEncoder, power_mel
from ._encoder import CheckpointInfo, pad_sequences
from ._hub import ALLOW_PICKLE_HINT, digest_of, resolve
from ._transformers import library_version, load_model, read_config, transformers

SAMPLING_RATE, N_FFT, HOP = 16_000, 400, 160
WINDOW = 30 * SAMPLING_RATE
STEP = 2 * HOP
"""Number of samples from one state to the next."""


class Whisper(SoundEncoder):
    """Whisper's encoder, from OpenAI's own checkpoints, the hub or a folder.

    Parameters
    ----------
    window : str
        ``padded`` to 30 s as in training, or ``exact``.
    allow_pickle : bool
        Whether pickled weights may be loaded. They can execute code.
    """

    family = "whisper"
    min_samples = N_FFT
    rate = SAMPLING_RATE / STEP
    checkpoints = (
        CheckpointInfo("whisper:openai/whisper-base", "", 512, 50, 21, "Apache-2.0"),
        CheckpointInfo("whisper:openai/whisper-large-v2", "", 1280, 50, 637, "Apache-2.0"),
        CheckpointInfo("whisper:openai/whisper-large-v3", "128 mel bands", 1280, 50, 637, "Apache-2.0"),
        CheckpointInfo("whisper:large-v3", "through openai-whisper", 1280, 50, 637, "MIT"),
    )

    def __init__(self, *, window: str = "padded", allow_pickle: bool = False) -> None:
        super().__init__()
        if window not in ("padded", "exact"):
            raise EncoderError(f"Found window={window}. The encoder whisper has window=padded and exact.")
        self.window, self.allow_pickle = window, allow_pickle
        self.batching = "mask" if window == "padded" else "equal"

    def load(self, checkpoint: str) -> None:
        """Load an encoder.

        The checkpoint is ``large-v3``, a name of openai-whisper, which verifies the digest of the file;
        ``openai/whisper-large-v3`` on the hub; a folder; or a file in the format of openai-whisper.
        """
        path = Path(checkpoint)
        if not path.is_dir() and ("/" not in checkpoint or path.is_file()):
            encoder, self.origin = _load_openai(checkpoint, self.allow_pickle)
            self.set_encoder(encoder)
            return
        files = resolve(checkpoint, allow_pickle=self.allow_pickle)
        config = read_config(files, family=self.family, model_types=("whisper",))
        architecture = transformers().models.whisper.modeling_whisper.WhisperEncoder
        self.set_encoder(load_model(files, architecture, config, renamed={r"^(model\.)?encoder\.": ""}))
        self.origin = {**files.identity(), "library": library_version()}

    def build_untrained(self, seed: int) -> None:
        from whisper.model import AudioEncoder

        self.set_encoder(AudioEncoder(n_mels=80, n_ctx=1500, n_state=32, n_head=2, n_layer=2).eval())

    def set_encoder(self, encoder: Any) -> Self:
        """Use an encoder of openai-whisper or of transformers."""
        self.encoder = encoder
        self.n_mels, self.dim = int(encoder.conv1.in_channels), int(encoder.conv1.out_channels)
        self.n_layers = len(_blocks(encoder)) + 1
        return self

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "window": self.window}

    def forward(self, media: Stream) -> list[Stream]:
        lengths = media.mask.sum(1).tolist()
        clips = [clip[:n].split(WINDOW) if n else () for clip, n in zip(media.values, lengths, strict=True)]
        counts = [n_states(n) for n in lengths]
        times = [torch.arange(n) * STEP / SAMPLING_RATE for n in counts]
        streams = []
        n_samples = WINDOW if self.window == "padded" else N_FFT  # that the model needs; silence is appended
        windows = [F.pad(w, (0, max(0, n_samples - len(w)))) for clip in clips for w in clip]
        for layer in self._encode(windows):
            states = iter(layer)
            empty = media.values.new_zeros(0, self.dim)
            rows = [
                torch.cat([next(states) for _ in clip] or [empty])[:n] for clip, n in zip(clips, counts, strict=True)
            ]
            streams.append(pad_sequences(rows, times))
        return streams

    def _encode(self, windows: list[Tensor]) -> list[list[Tensor]]:
        """Return the states of each layer and window; windows of one length share a forward pass."""
        layers: list[list[Tensor]] = [[torch.empty(0)] * len(windows) for _ in range(self.n_layers)]
        for length in dict.fromkeys(map(len, windows)):
            indices = [i for i, window in enumerate(windows) if len(window) == length]
            found = hidden_states(self.encoder, torch.stack([windows[i] for i in indices]), self.n_mels)
            for layer, states in zip(layers, found, strict=True):
                for i, window in zip(indices, states, strict=True):
                    layer[i] = window
        return layers


def n_states(n_samples: int) -> int:
    """Return the number of states of a clip of so many samples, over all of its windows."""
    full, rest = divmod(n_samples, WINDOW)
    return full * WINDOW // STEP + (max(1, -(-(rest // HOP) // 2)) if rest else 0)


def log_mel(samples: Tensor, n_mels: int) -> Tensor:
    """Return the input of Whisper: log10 mel power, clipped to 8 decades below the maximum of each window.

    Samples of shape (windows, samples) become (windows, n_mels, samples // 160).
    """
    power = power_mel(samples.float(), sampling_rate=SAMPLING_RATE, n_fft=N_FFT, hop=HOP, n_mels=n_mels, reflect=True)[
        ..., : samples.shape[-1] // HOP
    ]
    decades = power.clamp(min=1e-10).log10()
    floor = decades.amax((-2, -1), keepdim=True) - 8
    return (torch.maximum(decades, floor) + 4) / 4


def hidden_states(encoder: Any, samples: Tensor, n_mels: int) -> list[Tensor]:
    """Return the input of the first block and the output of each block, the last one normalised.

    The encoders of openai-whisper and of transformers are the same network under different names. Neither accepts an
    input that is not 30 s long, so their parts are called here one after the other. Samples of shape (windows,
    samples) become states of shape (windows, states, dim).
    """
    features = log_mel(samples, n_mels).to(encoder.conv1.weight.dtype)
    hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(features)))).transpose(1, 2)
    hidden = hidden + _positions(encoder)[: hidden.shape[1]].to(hidden.dtype)
    states = [hidden]
    for block in _blocks(encoder):
        states.append(block(states[-1]))
    norm = encoder.ln_post if hasattr(encoder, "ln_post") else encoder.layer_norm
    return [*states[:-1], norm(states[-1])]


def _blocks(encoder: Any) -> list[Callable[[Tensor], Tensor]]:
    if hasattr(encoder, "blocks"):
        return list(encoder.blocks)
    return [partial(layer, attention_mask=None) for layer in encoder.layers]


def _positions(encoder: Any) -> Tensor:
    if hasattr(encoder, "positional_embedding"):
        return encoder.positional_embedding  # type: ignore[no-any-return]
    return encoder.embed_positions.weight  # type: ignore[no-any-return]


def _load_openai(name: str, allow_pickle: bool) -> tuple[nn.Module, dict[str, str]]:
    import whisper

    path = Path(name)
    if path.is_file():
        if not allow_pickle:
            raise EncoderError(f"{name} is a pickled file, a format that can execute code. {ALLOW_PICKLE_HINT}")
        origin = {"checkpoint": "local", "revision": digest_of(path)}
    elif name in whisper._MODELS:
        origin = {"checkpoint": f"openai-whisper {name}", "revision": whisper._MODELS[name].split("/")[-2]}
    else:
        raise EncoderError(
            f"openai-whisper has no model {name!r}. Its models are: {', '.join(whisper.available_models())}."
        )
    try:
        return whisper.load_model(name, device="cpu").encoder.eval(), origin
    except OSError as error:
        raise EnvironmentFailure(
            f"Whisper {name} is not on disk and cannot be downloaded ({error}). Connect to the internet, or give the "
            "path of a file."
        ) from error


plugin = Whisper
