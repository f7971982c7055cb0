"""Image towers of CLIP and its successors as open_clip runs them: one vector per frame.

CLIP (Radford et al., ICML 2021), SigLIP (Zhai et al., ICCV 2023), EVA (Fang et al., CVPR 2023) and every other image
tower that open_clip lists. The text tower is neither built nor loaded.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import EncoderError
from . import _torchvision
from ._encoder import CheckpointInfo, Frames
from ._frames import FrameEncoder, Pixels, pool_tokens
from ._hub import Checkpoint, resolve

SAFE = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
PICKLED = ("open_clip_pytorch_model.bin",)
TINY = {"embed_dim": 24, "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}}
OTHER_FORMAT = "For a model in the format of transformers, use the encoder image:… instead of clip:…."


class ClipEncoder(FrameEncoder):
    """CLIP, SigLIP and EVA image towers of open_clip.

    Parameters
    ----------
    output : str
        ``projected`` for the vector that CLIP compares with text; ``cls`` or ``mean`` for the hidden states after each
        block, pooled by their class token or by the mean over patches.
    fps : float, optional
        Sampled frames per second; 4 if neither `fps` nor `frames` is given.
    frames : int, optional
        Number of frames sampled evenly over the clip.
    crop : str
        ``none`` or ``face``.
    allow_pickle : bool
        Whether pickled weights may be loaded. They can execute code.
    """

    family = "clip"
    checkpoints = (
        CheckpointInfo("clip:ViT-B-32/openai", "", 512, 4, 88, "MIT"),
        CheckpointInfo("clip:ViT-L-14/openai", "most accurate image encoder in MERBench", 768, 4, 304, "MIT"),
        CheckpointInfo("clip:EVA02-B-16/merged2b_s8b_b131k", "EVA-02", 512, 4, 86, "MIT"),
        CheckpointInfo("clip:ViT-B-16-SigLIP/webli", "SigLIP", 768, 4, 93, "Apache-2.0"),
        CheckpointInfo("clip:ViT-B-16-SigLIP2/webli", "SigLIP 2", 768, 4, 93, "Apache-2.0"),
    )

    def __init__(
        self,
        *,
        output: str = "projected",
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        allow_pickle: bool = False,
    ) -> None:
        super().__init__(fps=fps, frames=frames, crop=crop)
        if output not in ("projected", "cls", "mean"):
            raise EncoderError(f"Found output={output}. The encoder clip has output=projected, cls and mean.")
        self.output, self.allow_pickle = output, allow_pickle

    def load(self, checkpoint: str) -> None:
        """Load an image tower.

        The checkpoint is ``ViT-B-32/openai``, a model and its weights by their names in open_clip; ``org/name`` on the
        hub; or a folder with ``open_clip_config.json``.
        """
        source, layout = _named(checkpoint) or (checkpoint, None)
        files = resolve(source, allow_pickle=self.allow_pickle, weights=SAFE, pickled=PICKLED, hint=OTHER_FORMAT)
        layout = layout or _read_layout(files)
        self.set_tower(_load_tower(layout["model_cfg"], files, allow_pickle=self.allow_pickle), layout)
        self.origin = files.identity()

    def build_untrained(self, seed: int) -> None:
        self.set_tower(build(TINY), {"model_cfg": TINY, "preprocess_cfg": {}})

    def set_tower(self, tower: Any, layout: Mapping[str, Any]) -> Self:
        """Use an image tower of open_clip, with a layout in the format of ``open_clip_config.json``."""
        from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        self.tower, self.preprocess = tower, dict(layout["preprocess_cfg"])
        mean, std = self.preprocess.get("mean", OPENAI_DATASET_MEAN), self.preprocess.get("std", OPENAI_DATASET_STD)
        self.set_pixels(Pixels(_frames(tower, self.preprocess), mean=tuple(mean), std=tuple(std)))
        if self.output == "projected":
            self.n_layers, self.dim = 1, int(layout["model_cfg"]["embed_dim"])
        elif blocks := _blocks(tower):
            self.n_layers, self.dim = blocks
        else:
            raise EncoderError(f"{type(tower).__name__} has no blocks of a common width. Use output=projected.")
        return self

    def identity(self) -> Mapping[str, Any]:
        library = f"open_clip {version('open_clip_torch').partition('.')[0]}"
        return {**super().identity(), "output": self.output, "preprocess": self.preprocess, "library": library}

    def encode_frames(self, frames: Tensor) -> list[Tensor]:
        frames = frames.to(next(self.tower.parameters()).dtype)
        if self.output == "projected":
            return [self.tower(frames)]
        found = self.tower.forward_intermediates(
            frames, output_fmt="NLC", output_extra_tokens=True, intermediates_only=True
        )
        tokens = found["image_intermediates"]
        prefixes = found.get("image_intermediates_prefix", [None] * len(tokens))
        return [pool_tokens(t, p, self.output) for t, p in zip(tokens, prefixes, strict=True)]


def build(model: Mapping[str, Any]) -> nn.Module:
    """Build the image tower that a model configuration describes, with random weights.

    `open_clip.create_model` would also build the text tower and download its tokenizer.
    """
    _torchvision.declare_missing_operators()
    from open_clip.model import _build_vision_tower

    vision = dict(model["vision_cfg"])
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    tower: nn.Module = _build_vision_tower(model["embed_dim"], vision, quick_gelu=bool(model.get("quick_gelu", False)))
    return tower.eval()


def _named(checkpoint: str) -> tuple[str, dict[str, Any]] | None:
    """Return the repository on the hub and the layout of a model that open_clip lists, else None."""
    if Path(checkpoint).expanduser().is_dir() or checkpoint.count("/") != 1:
        return None
    _torchvision.declare_missing_operators()
    import open_clip

    name, _, revision = checkpoint.partition("@")
    model, _, tag = name.partition("/")
    config = open_clip.get_model_config(model)
    if config is None:
        return None
    weights = open_clip.get_pretrained_cfg(model, tag)
    if not weights.get("hf_hub"):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model))
        raise EncoderError(f"open_clip has no weights {tag!r} for {model} on the hub. Its weights are: {tags}.")
    if "quick_gelu" in weights:
        config["quick_gelu"] = weights["quick_gelu"]
    preprocess = {k: weights[k] for k in ("mean", "std", "interpolation", "resize_mode") if k in weights}
    repository = "/".join(weights["hf_hub"].split("/")[:2])
    source = f"{repository}@{revision}" if revision else repository
    return source, {"model_cfg": config, "preprocess_cfg": preprocess}


def _read_layout(files: Checkpoint) -> dict[str, Any]:
    path = files.folder / "open_clip_config.json"
    try:
        layout: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        layout["model_cfg"]["vision_cfg"]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{files.title} has no open_clip_config.json that describes an image tower. {OTHER_FORMAT}"
        ) from error
    layout.setdefault("preprocess_cfg", {})
    return layout


def _load_tower(model: Mapping[str, Any], files: Checkpoint, *, allow_pickle: bool) -> nn.Module:
    _torchvision.declare_missing_operators()
    from open_clip.factory import load_state_dict

    names = (*SAFE, *PICKLED) if allow_pickle else SAFE
    path = next(files.folder / n for n in names if (files.folder / n).is_file())
    weights = load_state_dict(str(path))
    visual = {k.removeprefix("visual."): v.float() for k, v in weights.items() if k.startswith("visual.")}
    # On the meta device no random weights are drawn. Models of timm compute more than weights when they are built.
    with torch.device("cpu" if model["vision_cfg"].get("timm_model_name") else "meta"):
        tower = build(model)
    try:
        tower.load_state_dict(visual, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise EncoderError(f"The weights in {path.name} do not fit the model in its configuration: {reason}") from error
    return tower


def _frames(tower: Any, preprocess: Mapping[str, Any]) -> Frames:
    size = tower.image_size
    side, other = (size, size) if isinstance(size, int) else size
    mode = preprocess.get("resize_mode", "shortest")
    resample = preprocess.get("interpolation", "bicubic")
    if side != other or mode not in ("shortest", "squash") or resample not in ("bicubic", "bilinear"):
        raise EncoderError(
            f"The checkpoint needs pictures of {side} x {other} pixels with resize_mode {mode} and interpolation "
            f"{resample}. affuse supports squares, resize_mode shortest or squash, interpolation bicubic or bilinear."
        )
    squash = mode == "squash"
    return Frames(size=side, crop_size=None if squash else side, resample=resample, squash=squash)


def _blocks(tower: Any) -> tuple[int, int] | None:
    """Return the number of blocks and their common width, or None where the widths differ."""
    if hasattr(tower, "transformer"):
        return len(tower.transformer.resblocks), int(tower.transformer.width)
    trunk = getattr(tower, "trunk", None)
    if trunk is not None and hasattr(trunk, "blocks"):
        return len(trunk.blocks), int(trunk.num_features)
    return None


plugin = ClipEncoder
