"""Self-supervised speech models that read the waveform.

wav2vec 2.0 (Baevski et al., NeurIPS 2020), HuBERT (Hsu et al., TASLP 2021), WavLM (Chen et al., JSTSP 2022) and
data2vec (Baevski et al., ICML 2022), as transformers runs them: one feature vector every 20 ms.
"""

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..tensors import Stream
from ._audio import SoundEncoder, n_steps, receptive_field
from ._encoder import CheckpointInfo, Sound, pad_sequences
from ._hub import resolve
from ._transformers import library_version, load_model, read_config, transformers

PICKLED = "pickled weights"
CHINESE_HUBERT = f"Chinese; highest accuracy at MER 2023; {PICKLED}"


class Wav2Vec2(SoundEncoder):
    """wav2vec 2.0, HuBERT, WavLM and data2vec speech models.

    Parameters
    ----------
    normed : bool
        Whether the last hidden state is taken after the closing layer normalisation, as transformers 4 returned it,
        or before it. The two differ in large models only.
    allow_pickle : bool
        Whether pickled weights may be loaded. They can execute code.

    Notes
    -----
    The first layer of base models normalises over time (group normalisation), and the positions of data2vec leak
    between frames. Clips share a forward pass of these models only if their lengths are equal.
    """

    family = "wav2vec2"
    checkpoints = (
        CheckpointInfo("wav2vec2:facebook/wav2vec2-base-960h", "English", 768, 50, 94, "Apache-2.0"),
        CheckpointInfo("wav2vec2:facebook/wav2vec2-large-960h-lv60-self", "English", 1024, 50, 315, "Apache-2.0"),
        CheckpointInfo("wav2vec2:facebook/hubert-base-ls960", "English", 768, 50, 94, "Apache-2.0"),
        CheckpointInfo("wav2vec2:facebook/hubert-large-ls960-ft", "English", 1024, 50, 315, "Apache-2.0"),
        CheckpointInfo("wav2vec2:TencentGameMate/chinese-hubert-large", CHINESE_HUBERT, 1024, 50, 315, "MIT"),
        CheckpointInfo("wav2vec2:TencentGameMate/chinese-wav2vec2-large", f"Chinese; {PICKLED}", 1024, 50, 315, "MIT"),
        CheckpointInfo("wav2vec2:microsoft/wavlm-large", f"English; {PICKLED}", 1024, 50, 315, "CC BY-SA 3.0"),
        CheckpointInfo("wav2vec2:facebook/data2vec-audio-base-960h", f"English; {PICKLED}", 768, 50, 93, "Apache-2.0"),
    )

    def __init__(self, *, normed: bool = False, allow_pickle: bool = False) -> None:
        super().__init__()
        self.normed, self.allow_pickle = normed, allow_pickle

    def load(self, checkpoint: str) -> None:
        files = resolve(checkpoint, allow_pickle=self.allow_pickle)
        config = read_config(files, family=self.family, model_types=("wav2vec2", "hubert", "wavlm", "data2vec-audio"))
        config.apply_spec_augment, config.layerdrop = False, 0.0  # both draw random numbers while training
        model = load_model(files, transformers().AutoModel, config, optional=("masked_spec_embed",))
        processor = transformers().Wav2Vec2FeatureExtractor
        has_processor = (files.folder / "preprocessor_config.json").is_file()
        preprocessing = processor.from_pretrained(files.folder) if has_processor else processor()
        self.set_model(model, normalise=preprocessing.do_normalize, sampling_rate=preprocessing.sampling_rate)
        self.origin = files.identity()

    def build_untrained(self, seed: int) -> None:
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
        self.set_model(library.Wav2Vec2Model(config).eval(), normalise=True)

    def set_model(self, model: Any, *, normalise: bool, sampling_rate: int = 16_000) -> Self:
        """Use a model of transformers with the preprocessing that it was trained with."""
        self.model, config = model, model.config
        same_length = config.model_type == "data2vec-audio" or config.feat_extract_norm != "layer"
        self.batching = "equal" if same_length else "mask"
        self.dim, self.n_layers = int(config.hidden_size), int(config.num_hidden_layers) + 1
        self.kernels, self.strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self.min_samples, self.hop = receptive_field(self.kernels, self.strides), float(np.prod(self.strides))
        self.normalise, self.sampling_rate = normalise, sampling_rate
        self.inputs, self.rate = Sound(sampling_rate), sampling_rate / self.hop
        return self

    def identity(self) -> Mapping[str, Any]:
        return {
            **super().identity(),
            "normalise": self.normalise,
            "normed": self.normed,
            "sampling_rate": self.sampling_rate,
            "library": library_version(),
        }

    def forward(self, media: Stream) -> list[Stream]:
        lengths = media.mask.sum(1).tolist()
        counts = n_steps(media.mask.sum(1), self.kernels, self.strides).tolist()
        layers: list[list[Tensor]] = [[torch.empty(0)] * len(counts) for _ in range(self.n_layers)]
        every = range(len(lengths))
        groups = [[row for row in every if lengths[row] == n] for n in dict.fromkeys(lengths)]
        for rows in [list(every)] if self.batching == "mask" else groups:
            longest = max(lengths[row] for row in rows)
            states = self._states(media.values[rows, :longest], media.mask[rows, :longest])
            for layer, state in zip(layers, states, strict=True):
                for row, clip in zip(rows, state, strict=True):
                    layer[row] = clip[: counts[row]]
        times = [(torch.arange(n) * self.hop + self.min_samples / 2) / self.sampling_rate for n in counts]
        return [pad_sequences(layer, times) for layer in layers]

    def _states(self, values: Tensor, mask: Tensor) -> list[Tensor]:
        if values.shape[1] < self.min_samples:  # clips without sound
            return [values.new_zeros(len(values), 0, self.dim)] * self.n_layers
        with warnings.catch_warnings():  # WavLM adds a float bias to a Boolean mask
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


plugin = Wav2Vec2
