"""Image towers of CLIP and its kin through open_clip, a vector a frame.

CLIP (Radford et al., ICML 2021), SigLIP (Zhai et al., ICCV 2023), EVA (Fang et al., CVPR 2023) and
whatever else open_clip names. The text tower is neither built nor loaded.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ..errors import EncoderError
from ..tensors import Stream
from . import _torchvision
from ._encoder import CheckpointInfo, Encoder, Frames, Media, Prepared, seeded
from ._frames import over_frames, pooled, sampled, to_channels
from ._hub import Checkpoint, resolve

SAFE = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
PICKLED = ("open_clip_pytorch_model.bin",)
TINY = {"embed_dim": 24, "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}}


class ClipEncoder(Encoder):
    """CLIP, SigLIP and EVA image towers of open_clip.

    Parameters
    ----------
    tower : open_clip image tower
    layout : mapping
        Model and preprocessing as ``open_clip_config.json`` holds them.
    output : str
        ``projected``, the vector that is compared with text; or the hidden states after each block,
        their ``cls`` token or the ``mean`` over patches.
    fps, frames : float or None, int or None
        Frames a second, or in all; 4 a second where neither is given.
    crop : str
        ``none`` or ``face``.
    origin : mapping
        Checkpoint and revision, for the key.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "visual"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (
        CheckpointInfo("clip:ViT-B-32/openai", "", 512, 4, 88, "MIT"),
        CheckpointInfo("clip:ViT-L-14/openai", "strongest picture encoder in MERBench", 768, 4, 304, "MIT"),
        CheckpointInfo("clip:EVA02-B-16/merged2b_s8b_b131k", "EVA-02", 512, 4, 86, "MIT"),
        CheckpointInfo("clip:ViT-B-16-SigLIP/webli", "SigLIP", 768, 4, 93, "Apache-2.0"),
    )

    def __init__(
        self,
        tower: Any,
        *,
        layout: Mapping[str, Any],
        output: str = "projected",
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        origin: Mapping[str, str],
    ) -> None:
        super().__init__()
        if output not in ("projected", "cls", "mean"):
            raise EncoderError(f"clip knows output=projected, cls and mean, found output={output}")
        self.tower, self.output, self.origin = tower, output, dict(origin)
        self.preprocess = dict(layout["preprocess_cfg"])
        self.inputs: Frames = sampled(_wanted(tower, self.preprocess), fps=fps, frames=frames, crop=crop, default=4)
        self.batching: Literal["mask", "equal", "single"] = "mask"
        blocks = _blocks(tower)
        if output != "projected" and blocks is None:
            raise EncoderError(f"{type(tower).__name__} has no blocks of one width; say output=projected")
        projection = (1, int(layout["model_cfg"]["embed_dim"]))
        self.n_layers, self.dim = blocks if blocks and output != "projected" else projection
        self.rate = self.inputs.fps

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str,
        *,
        output: str = "projected",
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        allow_pickle: bool = False,
    ) -> Self:
        """Load an image tower.

        Parameters
        ----------
        checkpoint : str
            ``ViT-B-32/openai``, a model and its weights as open_clip names them; ``org/name`` on
            the hub; or a folder with ``open_clip_config.json``.
        """
        named = _named(checkpoint)
        source, layout = named if named else (checkpoint, None)
        files = resolve(source, allow_pickle=allow_pickle, weights=SAFE, pickled=PICKLED)
        layout = layout or _layout(files)
        tower = _loaded(layout["model_cfg"], files, allow_pickle=allow_pickle)
        return cls(tower, layout=layout, output=output, fps=fps, frames=frames, crop=crop, origin=files.identity())

    @classmethod
    def untrained(
        cls,
        *,
        seed: int = 0,
        output: str = "projected",
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        allow_pickle: bool = False,
    ) -> Self:
        with seeded(seed):
            tower = build(TINY)
        layout = {"model_cfg": TINY, "preprocess_cfg": {}}
        return cls(
            tower, layout=layout, output=output, fps=fps, frames=frames, crop=crop, origin={"untrained": str(seed)}
        )

    def identity(self) -> Mapping[str, Any]:
        return {
            "family": "clip",
            "version": 1,
            **self.origin,
            "output": self.output,
            "wants": vars(self.inputs),
            "preprocess": self.preprocess,
            "library": f"open_clip {version('open_clip_torch').partition('.')[0]}",
        }

    def prepare(self, media: Media) -> Prepared:
        from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        return to_channels(
            media,
            scale=1 / 255,
            mean=self.preprocess.get("mean", OPENAI_DATASET_MEAN),
            std=self.preprocess.get("std", OPENAI_DATASET_STD),
        )

    def forward(self, media: Stream) -> list[Stream]:
        return over_frames(media, self._layers)

    def _layers(self, frames: Tensor) -> list[Tensor]:
        frames = frames.to(next(self.tower.parameters()).dtype)
        if self.output == "projected":
            return [self.tower(frames)]
        found = self.tower.forward_intermediates(
            frames, output_fmt="NLC", output_extra_tokens=True, intermediates_only=True
        )
        tokens = found["image_intermediates"]
        prefixes = found.get("image_intermediates_prefix", [None] * len(tokens))
        return [pooled(t, p, self.output) for t, p in zip(tokens, prefixes, strict=True)]


def build(model: Mapping[str, Any]) -> nn.Module:
    """Make the image tower that a model's configuration describes, with random weights.

    open_clip's own `create_model` would build the text tower too, and ask the hub for its parts.
    """
    _torchvision.mend()
    from open_clip.model import _build_vision_tower

    vision = dict(model["vision_cfg"])
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    tower: nn.Module = _build_vision_tower(model["embed_dim"], vision, quick_gelu=bool(model.get("quick_gelu", False)))
    return tower.eval()


def _named(checkpoint: str) -> tuple[str, dict[str, Any]] | None:
    """Return the hub's repository and the layout of a model that open_clip names itself."""
    if Path(checkpoint).expanduser().is_dir() or checkpoint.count("/") != 1:
        return None
    _torchvision.mend()
    import open_clip

    rest, _, revision = checkpoint.partition("@")
    model, _, tag = rest.partition("/")
    known = open_clip.get_model_config(model)
    if known is None:
        return None
    found = open_clip.get_pretrained_cfg(model, tag)
    if not found.get("hf_hub"):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model))
        raise EncoderError(f"open_clip has no weights {tag!r} of {model} on the hub; it has {tags}")
    if "quick_gelu" in found:
        known["quick_gelu"] = found["quick_gelu"]
    preprocess = {k: found[k] for k in ("mean", "std", "interpolation", "resize_mode") if k in found}
    repository = "/".join(found["hf_hub"].split("/")[:2])
    source = f"{repository}@{revision}" if revision else repository
    return source, {"model_cfg": known, "preprocess_cfg": preprocess}


def _layout(files: Checkpoint) -> dict[str, Any]:
    path = files.folder / "open_clip_config.json"
    try:
        layout: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        layout["model_cfg"]["vision_cfg"]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{files.name or files.folder} holds no open_clip_config.json that describes an image "
            "tower; for a model of transformers say -e image:… instead of -e clip:…"
        ) from error
    layout.setdefault("preprocess_cfg", {})
    return layout


def _loaded(model: Mapping[str, Any], files: Checkpoint, *, allow_pickle: bool) -> nn.Module:
    _torchvision.mend()
    from open_clip.factory import load_state_dict

    names = (*SAFE, *PICKLED) if allow_pickle else SAFE
    path = next(files.folder / n for n in names if (files.folder / n).is_file())
    weights = load_state_dict(str(path))
    own = {k.removeprefix("visual."): v.float() for k, v in weights.items() if k.startswith("visual.")}
    # Weights that are about to be replaced are not drawn; timm's models hold more than weights.
    with torch.device("cpu" if model["vision_cfg"].get("timm_model_name") else "meta"):
        tower = build(model)
    try:
        tower.load_state_dict(own, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise EncoderError(f"{path.name} does not fit the model described: {reason}") from error
    return tower


def _wanted(tower: Any, preprocess: Mapping[str, Any]) -> Frames:
    size = tower.image_size
    side, other = (size, size) if isinstance(size, int) else size
    mode = preprocess.get("resize_mode", "shortest")
    resample = preprocess.get("interpolation", "bicubic")
    known = mode in ("shortest", "squash") and resample in ("bicubic", "bilinear")
    if side != other or not known:
        raise EncoderError(
            f"the checkpoint takes pictures of {side} x {other}, resize_mode {mode}, interpolation "
            f"{resample}; affuse prepares squares by shortest or squash, bicubic or bilinear"
        )
    squash = mode == "squash"
    return Frames(size=side, crop_size=None if squash else side, resample=resample, squash=squash)


def _blocks(tower: Any) -> tuple[int, int] | None:
    """Return how many blocks of one width the tower has, and the width."""
    if hasattr(tower, "transformer"):
        return len(tower.transformer.resblocks), int(tower.transformer.width)
    trunk = getattr(tower, "trunk", None)
    if trunk is not None and hasattr(trunk, "blocks"):
        return len(trunk.blocks), int(trunk.num_features)
    return None


plugin = ClipEncoder
