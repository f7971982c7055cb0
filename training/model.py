"""EmotionModel: the network of a recipe with a fusion.

Every stream is standardised before the fusion. Where the layers of an encoder are kept apart, they are also
mixed into one. Both happen here, so that every fusion has them. A model is saved as one safetensors file whose
header says how to build it again.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from .. import plugins
from ..cache._commit import atomic_write
from ..errors import AffuseError, RecipeError, StoreError, listing
from ..fusion._fusion import Fusion
from ..heads._head import Decoded, Head
from ..posteriors.posterior import Posterior
from ..recipes.encoder_settings import EncoderSettings
from ..tensors import Fused, Stream
from .dataset import Dataset

if TYPE_CHECKING:
    from .encoder_stream import EncoderStream

MAX_HEADER = 1 << 20
"""Largest header of a saved model in bytes."""


class InputNorm(nn.Module):
    """Standardises one stream and mixes its layers.

    The mixture is a softmax-weighted sum over the layers with trained weights (Peters et al. 2018, ELMo,
    equation 1). Our interpretation: without the scale of the paper, since streams are standardised.

    Parameters
    ----------
    shape : tuple of int
        Shape of one step: ``(dim,)`` or ``(layers, dim)``.
    layers : "mix" or int
        Mix the layers, or use only the layer with this index.
    """

    def __init__(self, shape: Sequence[int], *, layers: Literal["mix"] | int = "mix") -> None:
        super().__init__()
        self.shape, self.layers = tuple(shape), layers
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("deviation", torch.ones(self.shape))
        if len(shape) == 2 and layers == "mix":
            self.weights = nn.Parameter(torch.zeros(shape[0]))
        elif len(shape) == 2 and not -shape[0] <= int(layers) < shape[0]:
            raise RecipeError(
                f"streams.layers = {layers}, but the features have {shape[0]} layers. Choose one of them."
            )

    def standardise(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Set the mean and the deviation of the training fold."""
        self.mean.copy_(torch.from_numpy(np.broadcast_to(mean, self.shape).copy()))
        self.deviation.copy_(torch.from_numpy(np.broadcast_to(deviation, self.shape).copy()))

    def forward(self, stream: Stream) -> Stream:
        """Return values of shape (batch, time, dim); masked steps become zero."""
        if stream.values.shape[2:] != self.shape:
            raise RecipeError(
                f"Found features of shape {tuple(stream.values.shape[2:])} per step, but the model was trained on "
                f"{self.shape}. Use the features of the same encoder."
            )
        # In place from here on: for batches of frames, allocating memory takes longer than the arithmetic.
        values = (stream.values - self.mean).div_(self.deviation)
        if len(self.shape) == 2:
            if self.layers == "mix":
                values = torch.einsum("l,btld->btd", self.weights.softmax(0), values)
            else:
                values = values[:, :, int(self.layers)]
        return stream._replace(values=values.masked_fill_(~stream.mask[..., None], 0))


class EmotionModel(nn.Module):
    """Network that decodes streams into logits of emotions and into dimensions.

    Parameters
    ----------
    input_norms : mapping of str to InputNorm
        One per stream.
    fusion : Fusion
    head : Head
    encoders : mapping of str to EncoderStream or None
        Encoders of the streams that start from media; all other streams start from features.

    Attributes
    ----------
    config : dict
        Arguments of `build`; empty for a model that was put together from its parts.
    """

    def __init__(
        self,
        input_norms: Mapping[str, InputNorm],
        fusion: Fusion,
        head: Head,
        *,
        encoders: "Mapping[str, EncoderStream] | None" = None,
    ) -> None:
        super().__init__()
        # Streams are numbered, since their names may not be valid names of modules. Saved models call the
        # input norms "front".
        self.names = list(input_norms)
        self.front = nn.ModuleList(input_norms.values())
        self.fusion, self.head = fusion, head
        self.encoders = nn.ModuleDict({str(self.names.index(n)): e for n, e in (encoders or {}).items()})
        self.config: dict[str, Any] = {}

    @classmethod
    def build(
        cls,
        shapes: Mapping[str, Sequence[int]],
        fusion: tuple[str, Mapping[str, Any]],
        head: tuple[str, Mapping[str, Any]],
        *,
        emotions: Sequence[str],
        dimensions: Sequence[str],
        layers: Literal["mix"] | int = "mix",
        encoders: Mapping[str, EncoderSettings] | None = None,
        seed: int = 0,
    ) -> "EmotionModel":
        """Build a model from plug-ins.

        Parameters
        ----------
        shapes : mapping of str to sequence of int
            Shape of one step of every stream.
        fusion, head : (str, mapping)
            Name and options.
        emotions, dimensions : sequence of str
            Names of the targets.
        layers : "mix" or int
            Treatment of encoder layers that are kept apart; see `InputNorm`.
        encoders : mapping of str to EncoderSettings or None
            Settings of the streams that start from media.
        seed : int
            Seed of encoders with random weights.
        """
        input_norms = {name: InputNorm(shape, layers=layers) for name, shape in shapes.items()}
        dims = {name: int(shape[-1]) for name, shape in shapes.items()}
        # The name may come from an untrusted run: only a fusion or a head may be called.
        for kind, base, (name, _) in (("fusion", Fusion, fusion), ("head", Head, head)):
            found = plugins.find(kind, name)
            if not (isinstance(found, type) and issubclass(found, base)):
                raise RecipeError(f"{name} is not a {kind}. A {kind} is a subclass of {base}.")
        fused = cast(Fusion, plugins.build("fusion", fusion[0], dims, settings=fusion[1]))
        decoder = plugins.build("head", head[0], fused.width, tuple(emotions), tuple(dimensions), settings=head[1])
        streams = None
        if encoders:
            from .encoder_stream import EncoderStream  # loads the media packages, which models of features do not need

            streams = {name: EncoderStream.build(settings, seed=seed) for name, settings in encoders.items()}
        model = cls(input_norms, fused, cast(Head, decoder), encoders=streams)
        model.config = {
            "shapes": {name: list(shape) for name, shape in shapes.items()},
            "fusion": [fusion[0], dict(fusion[1])],
            "head": [head[0], dict(head[1])],
            "emotions": list(emotions),
            "dimensions": list(dimensions),
            "layers": layers,
        }
        if encoders:
            model.config["encoders"] = {name: asdict(e) for name, e in encoders.items()}
            model.config["seed"] = seed
        return model

    def prepare(self, streams: Mapping[str, Stream]) -> dict[str, Stream]:
        """Return the input of the fusion: media encoded, streams standardised, layers mixed."""
        found = {}
        for place, name in enumerate(self.names):
            if name in streams:
                stream = streams[name]
                if str(place) in self.encoders:
                    stream = self.encoders[str(place)](stream)
                found[name] = self.front[place](stream)
        return found

    def encoder_streams(self) -> "dict[str, EncoderStream]":
        """Return the encoders by stream name."""
        return {self.names[int(k)]: cast("EncoderStream", e) for k, e in self.encoders.items()}

    def trained_state(self) -> dict[str, Tensor]:
        """Return the state without the frozen weights of encoders, which their checkpoints contain."""
        frozen = self._frozen()
        return {name: value for name, value in self.state_dict().items() if name not in frozen}

    def load_trained_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the tensors that `trained_state` returned."""
        missing, unknown = self.load_state_dict(dict(tensors), strict=False)
        required = set(missing) - self._frozen()
        if required or unknown:
            raise RuntimeError(f"{len(required)} weights are missing and {len(unknown)} are unknown")

    def start_from(self, other: "EmotionModel") -> None:
        """Copy the input norms, fusion and head of a model that was trained on the same streams."""
        parts = ("shapes", "layers", "fusion", "head", "emotions", "dimensions")
        differ = [part for part in parts if self.config.get(part) != other.config.get(part)]
        if differ:
            raise RecipeError(
                f"The run to start from differs from the recipe in: {listing(differ)}. Write the values of its "
                "recipe.toml into the recipe."
            )
        kept = {n: v for n, v in other.state_dict().items() if not n.startswith("encoders.")}
        self.load_state_dict(kept, strict=False)

    def _frozen(self) -> set[str]:
        return {
            f"encoders.{place}.encoder.{name}"
            for place, each in self.encoders.items()
            for name in cast("EncoderStream", each).frozen_names()
        }

    def decode(self, prepared: Mapping[str, Stream]) -> Decoded:
        """Fuse and decode prepared streams."""
        decoded: Decoded = self.head(self.fuse(prepared))
        return decoded

    def fuse(self, prepared: Mapping[str, Stream]) -> Fused:
        """Fuse prepared streams, and check that the fusion returns what its `width` declares."""
        fused, name = self.fusion(prepared), type(self.fusion).__name__
        if not isinstance(fused, Fused):
            raise RecipeError(f"The fusion {name} returned a {type(fused).__name__}. It must return a Fused.")
        if fused.vector.shape[-1] != self.fusion.width.vector:
            raise RecipeError(
                f"The fusion {name} returned a vector of shape {tuple(fused.vector.shape)}, but its width is "
                f"{self.fusion.width.vector}. Set self.width to the width that forward returns."
            )
        return fused

    def forward(self, streams: Mapping[str, Stream]) -> Decoded:
        """Decode streams: any non-empty subset of those that the model was built for."""
        return self.decode(self.prepare(streams))

    @torch.no_grad()
    def posterior(self, dataset: Dataset, *, device: torch.device | str = "cpu") -> Posterior:
        """Decode a dataset: one row per clip, in order, with nan for a clip without any stream.

        For windows one row per moment.
        """
        self.eval().to(device)
        dataset = dataset.with_delays(self.config.get("delays", ()))
        batches = ((rows, batch) for rows, batch in dataset.prediction_batches() if batch.streams)
        return dataset.assemble((rows, batch, self(batch.to(device).streams)) for rows, batch in batches)

    def save(self, path: Path) -> None:
        """Write the weights and the configuration; the file is complete or absent."""
        write_tensors(path, self.trained_state(), {"model": json.dumps(self.config, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> "EmotionModel":
        """Load a saved model; raise `StoreError` if the file is damaged, or not a model of affuse."""
        tensors, metadata = read_tensors(path)
        try:
            config = json.loads(metadata["model"])
            model = cls.build(
                config["shapes"],
                tuple(config["fusion"]),
                tuple(config["head"]),
                emotions=config["emotions"],
                dimensions=config["dimensions"],
                layers=config["layers"],
                encoders={n: EncoderSettings(**e) for n, e in config.get("encoders", {}).items()},
                seed=config.get("seed", 0),
            )
            model.load_trained_state(tensors)
            model.config = config
        except AffuseError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StoreError(f"{path} is not a model of this version of affuse: {error}.") from None
        return model.eval()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; it is complete or absent."""
    from safetensors.torch import save_file

    # A tensor may have two names (tied weights), but safetensors needs separate memory for each.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(copies, temporary, metadata=dict(metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and the metadata in its header; raise `StoreError` if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER:
                raise ValueError(f"the header has {length} bytes")
            metadata = json.loads(file.read(length)).get("__metadata__", {})
        return load_file(path), metadata
    except (OSError, ValueError, struct.error, SafetensorError) as error:
        raise StoreError(f"{path} cannot be read as a model: {error}.") from None
