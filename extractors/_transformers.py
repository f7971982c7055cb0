"""What the families that run through transformers share: quiet, safe, complete loading."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ..errors import EncoderError
from . import _torchvision
from ._encoder import Frames, Media, Prepared
from ._frames import to_channels
from ._hub import Checkpoint

RESAMPLE: dict[int, Literal["bicubic", "bilinear", "area"]] = {2: "bilinear", 3: "bicubic", 4: "area"}


@cache
def transformers() -> Any:
    """Return the library, imported on first use, without its progress bars."""
    _torchvision.mend()
    import transformers as library

    library.logging.disable_progress_bar()
    return library


def release() -> str:
    """Return the library's release: hidden states changed their meaning between two of them."""
    return "transformers " + ".".join(version("transformers").split(".")[:2])


def configuration(checkpoint: Checkpoint) -> Any:
    """Read the checkpoint's configuration.

    Raises
    ------
    EncoderError
        There is none, it cannot be read, or it asks for code of its own.
    """
    path = checkpoint.folder / "config.json"
    found = _json(path)
    if not found:
        raise EncoderError(f"{checkpoint.folder} holds no config.json; wanted a model's folder")
    model_type = found.get("model_type")
    known = transformers().CONFIG_MAPPING
    if model_type not in known:
        raise EncoderError(
            f"{checkpoint.name or checkpoint.folder} is a {model_type!r} model, which transformers "
            "does not hold; affuse runs no code from a checkpoint"
        )
    return known[model_type].from_dict(found)


def load(
    checkpoint: Checkpoint,
    architecture: Any,
    config: Any,
    *,
    spare: tuple[str, ...] = (),
    renamed: Mapping[str, str] | None = None,
) -> Any:
    """Load a model's weights in float32, in evaluation mode.

    Parameters
    ----------
    checkpoint : Checkpoint
    architecture : class
        With transformers' `from_pretrained`.
    config : configuration of the library
    spare : tuple of str
        Endings of weights that encoding does not use.
    renamed : mapping of str to str, or None
        Patterns of names in the file, and what the architecture calls them.

    Raises
    ------
    EncoderError
        Weights are missing, or are no safe file.
    """
    library = transformers()
    verbosity = library.logging.get_verbosity()
    library.logging.set_verbosity_error()
    try:
        model, found = architecture.from_pretrained(
            checkpoint.folder,
            config=config,
            dtype="float32",
            use_safetensors=not checkpoint.pickled,
            local_files_only=True,
            key_mapping=None if renamed is None else dict(renamed),
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{checkpoint.name or checkpoint.folder} cannot be loaded: {error}") from error
    finally:
        library.logging.set_verbosity(verbosity)
    missing = sorted(k for k in found["missing_keys"] if not k.endswith(spare))
    if missing:
        raise EncoderError(
            f"{checkpoint.name or checkpoint.folder} lacks {len(missing)} of the weights of "
            f"{type(model).__name__}, {missing[0]} first; wanted a checkpoint of that family"
        )
    return model.eval()


@dataclass(frozen=True)
class Pixels:
    """How a checkpoint's own processor turns a picture into numbers.

    Attributes
    ----------
    frames : Frames
        Size, crop and filter.
    scale : float
    mean, std : tuple of float
        One a channel.
    """

    frames: Frames
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def prepare(self, media: Media) -> Prepared:
        """Turn frames into numbers, channels first; see `to_channels`."""
        return to_channels(media, scale=self.scale, mean=self.mean, std=self.std)

    def identity(self) -> list[float]:
        """Return the numbers that a key depends on; size, crop and filter are in what is wanted."""
        return [self.scale, *self.mean, *self.std]


def pixels(checkpoint: Checkpoint) -> Pixels:
    """Read how the checkpoint's own processor sizes, crops and normalises.

    Raises
    ------
    EncoderError
        The checkpoint names no processor, or one whose resizing affuse does not do.
    """
    if (
        not (checkpoint.folder / "preprocessor_config.json").is_file()
        and not (checkpoint.folder / "processor_config.json").is_file()
    ):
        raise EncoderError(
            f"{checkpoint.name or checkpoint.folder} holds no preprocessor_config.json, so how its "
            "pictures were prepared is unknown; save the processor beside the model"
        )
    processor = transformers().AutoImageProcessor.from_pretrained(
        checkpoint.folder, local_files_only=True, trust_remote_code=False, backend="pil"
    )
    return Pixels(
        frames=_frames(processor, str(checkpoint.folder)),
        scale=processor.rescale_factor if processor.do_rescale else 1.0,
        mean=tuple(processor.image_mean) if processor.do_normalize else (0.0, 0.0, 0.0),
        std=tuple(processor.image_std) if processor.do_normalize else (1.0, 1.0, 1.0),
    )


def _frames(processor: Any, where: str) -> Frames:
    size = dict(processor.size) if processor.do_resize else {}
    crop = dict(processor.crop_size) if getattr(processor, "do_center_crop", False) else {}
    if crop and crop.get("height") != crop.get("width"):
        raise EncoderError(f"{where} crops to {crop}; affuse crops to squares")
    shorter = size.get("shortest_edge")
    if size and not shorter and size.get("height") != size.get("width"):
        raise EncoderError(f"{where} resizes to {size}; affuse resizes to squares or by one side")
    resample = RESAMPLE.get(int(processor.resample)) if size else "bicubic"
    if resample is None:
        raise EncoderError(f"{where} resizes by filter {processor.resample}; affuse has {RESAMPLE}")
    return Frames(
        size=shorter or size.get("height"),
        crop_size=crop.get("height"),
        resample=resample,
        squash=bool(size) and not shorter,
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EncoderError(f"{path} is no JSON: {error}") from error
    return found if isinstance(found, dict) else {}
