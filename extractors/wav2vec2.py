"""Self-supervised speech models that read the waveform, one family by architecture.

wav2vec 2.0 (Baevski et al., NeurIPS 2020), HuBERT (Hsu et al., TASLP 2021), WavLM (Chen et al.,
JSTSP 2022), data2vec (Baevski et al., ICML 2022), as transformers runs them.
"""

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ..errors import EncoderError
from ..tensors import Stream
from ._audio import waveform
from ._encoder import CheckpointInfo, Encoder, Media, Prepared, Sound, gathered, seeded
from ._hub import resolve
from ._transformers import configuration, load, release, transformers

TYPES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")


class Wav2Vec2(Encoder):
    """wav2vec 2.0, HuBERT, WavLM and data2vec speech models.

    Parameters
    ----------
    model : transformers model
    normalise : bool
        Each clip is brought to zero mean and unit variance first.
    sampling_rate : int
    normed : bool
        The last hidden state is the model's output behind its closing layer norm, as transformers 4
        gave it; otherwise what stands before it. They differ in large models alone.
    origin : mapping
        Checkpoint and revision, for the key.

    Notes
    -----
    Base models normalise over time in their first layer (group norm), and data2vec's positions
    leak between frames, so there clips share a forward pass only where their lengths are equal.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "audio"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (
        CheckpointInfo("wav2vec2:facebook/wav2vec2-base-960h", "English", 768, 50, 94, "Apache-2.0"),
        CheckpointInfo("wav2vec2:facebook/wav2vec2-large-960h-lv60-self", "English", 1024, 50, 315, "Apache-2.0"),
        CheckpointInfo("wav2vec2:facebook/hubert-base-ls960", "English", 768, 50, 94, "Apache-2.0"),
        CheckpointInfo("wav2vec2:facebook/hubert-large-ls960-ft", "English", 1024, 50, 315, "Apache-2.0"),
        CheckpointInfo(
            "wav2vec2:TencentGameMate/chinese-hubert-large",
            "Chinese; strongest at MER 2023; pickled weights",
            1024,
            50,
            315,
            "MIT",
        ),
        CheckpointInfo(
            "wav2vec2:TencentGameMate/chinese-wav2vec2-large", "Chinese; pickled weights", 1024, 50, 315, "MIT"
        ),
        CheckpointInfo("wav2vec2:microsoft/wavlm-large", "English; pickled weights", 1024, 50, 315, "CC BY-SA 3.0"),
        CheckpointInfo(
            "wav2vec2:facebook/data2vec-audio-base-960h", "English; pickled weights", 768, 50, 93, "Apache-2.0"
        ),
    )

    def __init__(
        self,
        model: Any,
        *,
        normalise: bool,
        sampling_rate: int = 16_000,
        normed: bool = False,
        origin: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.model = model
        self.normalise, self.normed, self.origin = normalise, normed, dict(origin)
        config = model.config
        masked = config.model_type != "data2vec-audio" and config.feat_extract_norm == "layer"
        self.batching: Literal["mask", "equal", "single"] = "mask" if masked else "equal"
        self.dim = int(config.hidden_size)
        self.n_layers = int(config.num_hidden_layers) + 1
        self.kernels, self.strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self.rate = sampling_rate / float(np.prod(self.strides))
        self.inputs: Sound = Sound(sampling_rate)

    @classmethod
    def from_pretrained(cls, checkpoint: str, *, normed: bool = False, allow_pickle: bool = False) -> Self:
        files = resolve(checkpoint, allow_pickle=allow_pickle)
        config = configuration(files)
        if config.model_type not in TYPES:
            raise EncoderError(f"{checkpoint} is a {config.model_type} model; wav2vec2 takes {', '.join(TYPES)}")
        config.apply_spec_augment, config.layerdrop = False, 0.0  # each would draw by a seed unseen
        model = load(files, transformers().AutoModel, config, spare=("masked_spec_embed",))
        processor = (
            transformers().Wav2Vec2FeatureExtractor.from_pretrained(files.folder)
            if (files.folder / "preprocessor_config.json").is_file()
            else transformers().Wav2Vec2FeatureExtractor()
        )
        return cls(
            model,
            normalise=processor.do_normalize,
            sampling_rate=processor.sampling_rate,
            normed=normed,
            origin=files.identity(),
        )

    @classmethod
    def untrained(cls, *, seed: int = 0, normed: bool = False, allow_pickle: bool = False) -> Self:
        library = transformers()
        config = library.Wav2Vec2Config(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            conv_dim=[16] * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            apply_spec_augment=False,
            layerdrop=0.0,
        )
        with seeded(seed):
            model = library.Wav2Vec2Model(config).eval()
        return cls(model, normalise=True, normed=normed, origin={"untrained": str(seed)})

    def identity(self) -> Mapping[str, Any]:
        return {
            "family": "wav2vec2",
            "version": 1,
            **self.origin,
            "normalise": self.normalise,
            "normed": self.normed,
            "sampling_rate": self.inputs.sampling_rate,
            "library": release(),
        }

    def prepare(self, media: Media) -> Prepared:
        return waveform(media, self.inputs, shortest=self._span(), normalise=self.normalise)

    def forward(self, media: Stream) -> list[Stream]:
        lengths = media.mask.sum(1).tolist()
        layers: list[list[Tensor]] = [[] for _ in range(self.n_layers)]
        order: list[int] = []
        for rows in self._together(lengths):
            longest = max(lengths[row] for row in rows)
            states = self._states(media.values[rows, :longest], media.mask[rows, :longest])
            order += rows
            for kept, state in zip(layers, states, strict=True):
                kept += [clip[: self.steps(lengths[r])] for clip, r in zip(state, rows, strict=True)]
        back = sorted(range(len(order)), key=order.__getitem__)
        times = [self._times(self.steps(length)) for length in lengths]
        return [gathered([kept[i] for i in back], times) for kept in layers]

    def steps(self, n_samples: int) -> int:
        """Return how many feature vectors so many samples make."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            n_samples = (n_samples - kernel) // stride + 1
        return max(n_samples, 0)

    def _together(self, lengths: list[int]) -> list[list[int]]:
        """Return which rows may share a forward pass without changing each other."""
        everyone = list(range(len(lengths)))
        if self.batching == "mask":
            return [everyone]
        return [[i for i in everyone if lengths[i] == n] for n in dict.fromkeys(lengths)]

    def _states(self, values: Tensor, mask: Tensor) -> list[Tensor]:
        shortest = self._span()
        if values.shape[1] < shortest:  # clips without sound: any numbers do, none is kept
            return [values.new_zeros(len(values), 0, self.dim)] * self.n_layers
        with warnings.catch_warnings():  # WavLM adds a float bias to a bool mask, and torch says so
            warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
            found = self.model(
                values.masked_fill(~mask, 0).to(self.model.dtype),
                attention_mask=None if mask.all() else mask.long(),
                output_hidden_states=True,
            )
        states = list(found.hidden_states)
        if self.normed:
            states[-1] = found.last_hidden_state
        return states

    def _span(self) -> int:
        """Return the samples that one step sees."""
        span, jump = 1, 1
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            span, jump = span + (kernel - 1) * jump, jump * stride
        return span

    def _times(self, n_steps: int) -> Tensor:
        hop = float(np.prod(self.strides))
        return (torch.arange(n_steps) * hop + self._span() / 2) / self.inputs.sampling_rate


plugin = Wav2Vec2
