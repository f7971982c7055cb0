"""The encoder of Whisper (Radford et al., ICML 2023): its states, not the decoder's.

The model was trained on 30 s, padded by silence. So clips are padded to 30 s, encoded, and the
states cut to the clip's true length; longer clips are cut into windows of 30 s. With
`window="exact"` nothing is padded, which is an order of magnitude faster on short clips and gives
other features.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EncoderError, EnvironmentFailure
from ..tensors import Stream
from ._audio import waveform
from ._encoder import CheckpointInfo, Encoder, Media, Prepared, Sound, gathered, seeded
from ._hub import digest_of, resolve
from ._mel import power_mel
from ._transformers import configuration, load, release, transformers

SAMPLING_RATE, N_FFT, HOP = 16_000, 400, 160
WINDOW = 30 * SAMPLING_RATE
STEP = 2 * HOP
"""Samples from one state to the next."""


class Whisper(Encoder):
    """Whisper's encoder, from OpenAI's own checkpoints, the hub or a folder.

    Parameters
    ----------
    encoder : encoder of openai-whisper or of transformers
    window : str
        ``padded`` to 30 s as trained, or ``exact``.
    origin : mapping
        Checkpoint and revision, for the key.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "audio"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (
        CheckpointInfo("whisper:openai/whisper-base", "", 512, 50, 21, "Apache-2.0"),
        CheckpointInfo("whisper:openai/whisper-large-v2", "", 1280, 50, 637, "Apache-2.0"),
        CheckpointInfo("whisper:openai/whisper-large-v3", "128 mel bands", 1280, 50, 637, "Apache-2.0"),
        CheckpointInfo("whisper:large-v3", "through openai-whisper", 1280, 50, 637, "MIT"),
    )

    def __init__(self, encoder: Any, *, window: str = "padded", origin: Mapping[str, str]) -> None:
        super().__init__()
        if window not in ("padded", "exact"):
            raise EncoderError(f"whisper knows window=padded and exact, found window={window}")
        self.encoder, self.window, self.origin = encoder, window, dict(origin)
        self.batching: Literal["mask", "equal", "single"] = "mask" if window == "padded" else "equal"
        self.n_mels, self.dim = int(encoder.conv1.in_channels), int(encoder.conv1.out_channels)
        self.n_layers = len(_blocks(encoder)) + 1
        self.rate = SAMPLING_RATE / STEP
        self.inputs: Sound = Sound(SAMPLING_RATE)

    @classmethod
    def from_pretrained(cls, checkpoint: str, *, window: str = "padded", allow_pickle: bool = False) -> Self:
        """Load an encoder.

        Parameters
        ----------
        checkpoint : str
            ``large-v3``, as openai-whisper names its own, whose digest that library pins;
            ``openai/whisper-large-v3`` on the hub; a folder; or a file of openai-whisper's.
        """
        if "/" not in checkpoint or Path(checkpoint).is_file():
            if not Path(checkpoint).is_dir():
                encoder, origin = _openai(checkpoint, allow_pickle)
                return cls(encoder, window=window, origin=origin)
        files = resolve(checkpoint, allow_pickle=allow_pickle)
        config = configuration(files)
        if config.model_type != "whisper":
            raise EncoderError(f"{checkpoint} is a {config.model_type} model, no Whisper")
        architecture = transformers().models.whisper.modeling_whisper.WhisperEncoder
        encoder = load(files, architecture, config, renamed={r"^(model\.)?encoder\.": ""})
        return cls(encoder, window=window, origin={**files.identity(), "library": release()})

    @classmethod
    def untrained(cls, *, seed: int = 0, window: str = "padded", allow_pickle: bool = False) -> Self:
        from whisper.model import AudioEncoder

        with seeded(seed):
            encoder = AudioEncoder(n_mels=80, n_ctx=1500, n_state=32, n_head=2, n_layer=2)
        return cls(encoder.eval(), window=window, origin={"untrained": str(seed)})

    def identity(self) -> Mapping[str, Any]:
        return {"family": "whisper", "version": 1, **self.origin, "window": self.window}

    def prepare(self, media: Media) -> Prepared:
        return waveform(media, self.inputs, shortest=N_FFT)

    def forward(self, media: Stream) -> list[Stream]:
        lengths = media.mask.sum(1).tolist()
        windows: list[Tensor] = []
        owners: list[int] = []
        for row, n_samples in enumerate(lengths):
            if n_samples == 0:
                continue
            for piece in torch.split(media.values[row, :n_samples], WINDOW):
                windows.append(self._filled(piece))
                owners.append(row)
        counts = [states_of(n) for n in lengths]
        nothing = media.values.new_zeros(0, self.dim)
        times = [torch.arange(n) * STEP / SAMPLING_RATE for n in counts]
        return [gathered(_joined(layer, owners, counts, nothing), times) for layer in self._encoded(windows)]

    def _filled(self, samples: Tensor) -> Tensor:
        """Return a window as long as the model wants it, silence behind."""
        wanted = WINDOW if self.window == "padded" else N_FFT
        return F.pad(samples, (0, max(0, wanted - len(samples))))

    def _encoded(self, windows: list[Tensor]) -> list[list[Tensor]]:
        """Return the states of each layer and window; windows of one length share a pass."""
        layers: list[list[Tensor]] = [[torch.empty(0)] * len(windows) for _ in range(self.n_layers)]
        for length in dict.fromkeys(map(len, windows)):
            alike = [i for i, window in enumerate(windows) if len(window) == length]
            found = states(self.encoder, torch.stack([windows[i] for i in alike]), self.n_mels)
            for kept, layer in zip(layers, found, strict=True):
                for i, window in zip(alike, layer, strict=True):
                    kept[i] = window
        return layers


def _joined(windows: list[Tensor], owners: list[int], counts: list[int], nothing: Tensor) -> list[Tensor]:
    """Return each clip's windows in a row, cut to its true length; none without sound."""
    rows: list[list[Tensor]] = [[] for _ in counts]
    for window, owner in zip(windows, owners, strict=True):
        rows[owner].append(window)
    return [torch.cat(row)[:n] if row else nothing for row, n in zip(rows, counts, strict=True)]


def states_of(n_samples: int) -> int:
    """Return how many states so many samples make, over all windows."""
    full, rest = divmod(n_samples, WINDOW)
    return full * WINDOW // STEP + (max(1, -(-(rest // HOP) // 2)) if rest else 0)


def log_mel(samples: Tensor, n_mels: int) -> Tensor:
    """Return Whisper's input: log10 mel power, 8 decades below each window's loudest at least.

    Parameters
    ----------
    samples : Tensor [shape=(windows, samples)]

    Returns
    -------
    Tensor [shape=(windows, n_mels, samples // 160)]
    """
    power = power_mel(samples.float(), sampling_rate=SAMPLING_RATE, n_fft=N_FFT, hop=HOP, n_mels=n_mels, reflect=True)[
        ..., : samples.shape[-1] // HOP
    ]
    decades = power.clamp(min=1e-10).log10()
    floor = decades.amax((-2, -1), keepdim=True) - 8
    return (torch.maximum(decades, floor) + 4) / 4


def states(encoder: Any, samples: Tensor, n_mels: int) -> list[Tensor]:
    """Return what goes into the first block, and what each block gives; the last one normalised.

    Both libraries' encoders are the same network under other names. Neither takes an input that is
    not 30 s long, so their parts are called here.
    """
    features = log_mel(samples, n_mels).to(encoder.conv1.weight.dtype)
    hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(features)))).transpose(1, 2)
    hidden = hidden + _positions(encoder)[: hidden.shape[1]].to(hidden.dtype)
    found = [hidden]
    for block in _blocks(encoder):
        found.append(block(found[-1]))
    norm = encoder.ln_post if hasattr(encoder, "ln_post") else encoder.layer_norm
    return [*found[:-1], norm(found[-1])]


def _blocks(encoder: Any) -> list[Callable[[Tensor], Tensor]]:
    if hasattr(encoder, "blocks"):
        return list(encoder.blocks)
    return [partial(layer, attention_mask=None) for layer in encoder.layers]


def _positions(encoder: Any) -> Tensor:
    if hasattr(encoder, "positional_embedding"):
        return encoder.positional_embedding  # type: ignore[no-any-return]
    return encoder.embed_positions.weight  # type: ignore[no-any-return]


def _openai(name: str, allow_pickle: bool) -> tuple[nn.Module, dict[str, str]]:
    import whisper

    local = Path(name)
    if local.is_file():
        if not allow_pickle:
            raise EncoderError(
                f"{name} is a pickled file; where you trust its author, say --allow-pickle (the "
                "option allow_pickle=true)"
            )
        origin = {"checkpoint": "local", "revision": digest_of(local)}
    elif name in whisper._MODELS:
        origin = {"checkpoint": f"openai-whisper {name}", "revision": whisper._MODELS[name].split("/")[-2]}
    else:
        raise EncoderError(f"openai-whisper has no model {name!r}; it has {', '.join(whisper.available_models())}")
    try:
        return whisper.load_model(name, device="cpu").encoder.eval(), origin
    except OSError as error:
        raise EnvironmentFailure(
            f"Whisper {name} is not on disk and cannot be fetched ({error}); connect or name a file"
        ) from error


plugin = Whisper
