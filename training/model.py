"""EmotionModel: what stands before a fusion, the fusion, and the head that decodes it.

Before the fusion every stream is standardised and, where an encoder's layers are kept apart, mixed
into one: in one place, so that every fusion has both. A model is saved as one safetensors file
whose header says how to build it again.
"""

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from .. import plugins
from ..errors import AffuseError, RecipeError, StoreError, listing
from ..fusion._fusion import Fusion
from ..heads._head import Decoded, Head
from ..posteriors.posterior import Posterior
from ..recipes.encoder_settings import UNTRAINED, EncoderSettings
from ..tensors import Fused, Stream
from .dataset import CachedDataset, cut
from .encoder_stream import EncoderStream
from .finetuning import trained_names
from .window_dataset import WindowDataset

HEADER = 1 << 20
"""Largest JSON that a saved model may carry, bytes."""


class InputNorm(nn.Module):
    """Standardises one stream and mixes its layers.

    Mixing is a softmax-weighted sum over layers, the weights learned (Peters et al. 2018, ELMo,
    equation 1, without its scale: streams are standardised).

    Parameters
    ----------
    shape : tuple of int
        Of one step: ``(dim,)`` or ``(layers, dim)``.
    layers : "mix" or int
        Mix, or take that one layer.
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
            raise RecipeError(f"streams.layers = {layers}; the features hold {shape[0]} layers")

    def standardise(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Take over the training fold's mean and deviation."""
        self.mean.copy_(torch.from_numpy(np.broadcast_to(mean, self.shape).copy()))
        self.deviation.copy_(torch.from_numpy(np.broadcast_to(deviation, self.shape).copy()))

    def forward(self, stream: Stream) -> Stream:
        """Return values of shape (batch, time, dim); what is masked becomes zero.

        Raises
        ------
        RecipeError
            Features of another width than the model was trained on.
        """
        if stream.values.shape[2:] != self.shape:
            raise RecipeError(
                f"features of shape {tuple(stream.values.shape[2:])} a step, the model was trained "
                f"on {self.shape}; give it the features of its own encoder"
            )
        # In place from here on: on a frame-level batch, memory costs more than arithmetic.
        values = (stream.values - self.mean).div_(self.deviation)
        if len(self.shape) == 2:
            if self.layers == "mix":
                values = torch.einsum("l,btld->btd", self.weights.softmax(0), values)
            else:
                values = values[:, :, int(self.layers)]
        return stream._replace(values=values.masked_fill_(~stream.mask[..., None], 0))


class EmotionModel(nn.Module):
    """Streams in, logits and dimensions out.

    Parameters
    ----------
    fronts : mapping of str to InputNorm
        One a stream.
    fusion : Fusion
    head : Head
    encoders : mapping of str to EncoderStream
        A stream whose encoder is given starts from media; any other from features.

    Attributes
    ----------
    config : dict
        What `build` made it of; empty for a model that was put together by hand.
    """

    def __init__(
        self,
        fronts: Mapping[str, InputNorm],
        fusion: Fusion,
        head: Head,
        *,
        encoders: Mapping[str, EncoderStream] | None = None,
    ) -> None:
        super().__init__()
        # Streams may be called what no module may be called: places are numbers.
        self.names = list(fronts)
        self.front = nn.ModuleList(fronts.values())
        self.fusion, self.head = fusion, head
        given = encoders or {}
        self.encoders = nn.ModuleDict({str(self.names.index(n)): e for n, e in given.items()})
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
        """Make a model of plug-ins.

        Parameters
        ----------
        shapes : mapping of str to sequence of int
            Shape of one step of every stream.
        fusion, head : (str, mapping)
            Name and options.
        emotions, dimensions : sequence of str
        layers : "mix" or int
        encoders : mapping of str to EncoderSettings or None
            Of the streams that start from media.
        seed : int
            Of encoders that begin with random weights.

        Raises
        ------
        UnknownName, UnknownOption, RecipeError
        """
        fronts = {name: InputNorm(shape, layers=layers) for name, shape in shapes.items()}
        dims = {name: int(shape[-1]) for name, shape in shapes.items()}
        # A name may come from a stranger's run folder: nothing but a fusion or head is called.
        for kind, base, (name, _) in (("fusion", Fusion, fusion), ("head", Head, head)):
            found = plugins.find(kind, name)
            if not (isinstance(found, type) and issubclass(found, base)):
                raise RecipeError(f"{name} is not a {kind}; a {kind} is a subclass of {base}")
        fused = cast(Fusion, plugins.build("fusion", fusion[0], dims, settings=fusion[1]))
        decoder = plugins.build("head", head[0], fused.width, tuple(emotions), tuple(dimensions), settings=head[1])
        given = {n: EncoderStream.build(e, seed=seed) for n, e in (encoders or {}).items()}
        model = cls(fronts, fused, cast(Head, decoder), encoders=given)
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
        """Encode what starts from media, standardise, mix layers: what the fusion then sees."""
        found = {}
        for place, name in enumerate(self.names):
            if name in streams:
                stream = streams[name]
                if str(place) in self.encoders:
                    stream = self.encoders[str(place)](stream)
                found[name] = self.front[place](stream)
        return found

    def attached(self) -> dict[str, EncoderStream]:
        """Return the encoders by their streams' names."""
        return {self.names[int(k)]: cast(EncoderStream, e) for k, e in self.encoders.items()}

    def learnt(self) -> dict[str, Tensor]:
        """Return the state without the encoders' frozen weights, which their checkpoints hold."""
        frozen = self._frozen()
        return {name: value for name, value in self.state_dict().items() if name not in frozen}

    def relearn(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `learnt` returned.

        Raises
        ------
        RuntimeError
            Of another model.
        """
        missing, spare = self.load_state_dict(dict(tensors), strict=False)
        lacking = set(missing) - self._frozen()
        if lacking or spare:
            raise RuntimeError(f"{len(lacking)} weights are missing and {len(spare)} are unknown")

    def begin_from(self, other: "EmotionModel") -> None:
        """Take over fronts, fusion and head of a model that was trained on the same streams.

        Raises
        ------
        RecipeError
            Another fusion or head, or other streams.
        """
        parts = ("shapes", "layers", "fusion", "head", "emotions", "dimensions")
        differ = [part for part in parts if self.config.get(part) != other.config.get(part)]
        if differ:
            raise RecipeError(
                f"{listing(differ)} of the run to start from differ from the recipe's; state in "
                "the recipe what its recipe.toml says"
            )
        kept = {n: v for n, v in other.state_dict().items() if not n.startswith("encoders.")}
        self.load_state_dict(kept, strict=False)

    def _frozen(self) -> set[str]:
        found = set()
        for place, each in self.encoders.items():
            if cast(EncoderStream, each).settings.checkpoint != UNTRAINED:
                encoder = cast(EncoderStream, each).encoder
                names = set(encoder.state_dict()) - trained_names(encoder)
                found |= {f"encoders.{place}.encoder.{name}" for name in names}
        return found

    def decode(self, prepared: Mapping[str, Stream]) -> Decoded:
        """Fuse and decode prepared streams."""
        decoded: Decoded = self.head(self.fuse(prepared))
        return decoded

    def fuse(self, prepared: Mapping[str, Stream]) -> Fused:
        """Fuse prepared streams.

        Raises
        ------
        RecipeError
            The fusion, somebody's own perhaps, does not keep its word on shapes.
        """
        fused, name = self.fusion(prepared), type(self.fusion).__name__
        if not isinstance(fused, Fused):
            raise RecipeError(f"the fusion {name} returned a {type(fused).__name__}; wanted Fused")
        if fused.vector.shape[-1] != self.fusion.width.vector:
            raise RecipeError(
                f"the fusion {name} returned a vector of shape {tuple(fused.vector.shape)} and its "
                f"width says {self.fusion.width.vector}; set self.width to what forward returns"
            )
        return fused

    def forward(self, streams: Mapping[str, Stream]) -> Decoded:
        """Decode streams, any non-empty subset of those the model was built on."""
        return self.decode(self.prepare(streams))

    @torch.no_grad()
    def posterior(self, samples: CachedDataset, *, device: torch.device | str = "cpu") -> Posterior:
        """Decode every sample; one whose streams are all absent gets a row of nan.

        Dimensions over time become their mean over the clip; of windows they stay, a row a moment.

        Returns
        -------
        Posterior
            In the samples' order.
        """
        self.eval().to(device)
        if isinstance(samples, WindowDataset):
            return self._over_time(samples, device)
        probabilities = np.full((len(samples), len(samples.emotions)), np.nan)
        dimensions = np.full((len(samples), len(samples.dimensions)), np.nan)
        there = [row for row, n_steps in enumerate(samples.lengths) if n_steps]
        plan = cut(sorted(there, key=samples.lengths.__getitem__), samples.at_once)
        for part, batch in zip(plan, samples.batches(plan), strict=True):
            if not batch.streams:
                continue
            decoded = self(batch.to(device).streams)
            seen = torch.stack([s.mask.any(1) for s in batch.streams.values()]).any(0).numpy()
            rows = np.array(part)[seen]
            if samples.emotions:
                found = decoded.logits.double().softmax(-1).cpu().numpy()
                probabilities[rows] = found[seen]
            if samples.dimensions:
                means = over_clip(decoded.dimensions, decoded.mask)
                dimensions[rows] = means.double().cpu().numpy()[seen]
        named = {name: dimensions[:, d] for d, name in enumerate(samples.dimensions)}
        return Posterior(samples.ids, samples.emotions, probabilities, named)

    def _over_time(self, samples: WindowDataset, device: torch.device | str) -> Posterior:
        answers, masks = [], []
        windows = samples.delayed(self.config.get("delays", samples.delays))
        for rows in cut(range(len(windows)), samples.at_once):
            decoded = self(windows.batch(rows).to(device).streams)
            answers.append(decoded.dimensions.double().cpu().numpy())
            if decoded.mask is not None:
                masks.append(decoded.mask.cpu().numpy())
        if not answers:
            return windows.assembled([], np.zeros((0, len(samples.dimensions))), None)
        mask = np.concatenate(masks) if masks else None
        return windows.assembled(range(len(windows)), np.concatenate(answers), mask)

    def save(self, path: Path) -> None:
        """Write weights and how to build the model, whole or not at all."""
        write_tensors(path, self.learnt(), {"model": json.dumps(self.config, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> "EmotionModel":
        """Build a saved model again.

        Raises
        ------
        StoreError
            Damaged, or not a model of affuse.
        """
        tensors, words = read_tensors(path)
        try:
            config = json.loads(words["model"])
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
            model.relearn(tensors)
            model.config = config
        except AffuseError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StoreError(f"{path} is not a model of this version of affuse: {error}") from None
        return model.eval()


def over_clip(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over a clip's steps, or what there is if it has none."""
    if values.ndim == 2:
        return values
    if mask is None:
        return values.mean(1)
    share = mask / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("bt,btn->bn", share.to(values), values)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> None:
    """Write a safetensors file beside its place, then move it there."""
    from safetensors.torch import save_file

    spare = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    # One tensor may stand under two names (tied weights); safetensors wants each its own memory.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(whole, spare, metadata=dict(words))
        with spare.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(spare, path)
    finally:
        spare.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and the words in its header.

    Raises
    ------
    StoreError
        Damaged, or something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > HEADER:
                raise ValueError(f"a header of {length} bytes")
            words = json.loads(file.read(length)).get("__metadata__", {})
        return load_file(path), words
    except (OSError, ValueError, struct.error, SafetensorError) as error:
        raise StoreError(f"{path} cannot be read as a model: {error}") from None
