"""Loading of models and preprocessing through transformers: silent, safe, and complete."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from ..errors import EncoderError
from . import _torchvision
from ._encoder import Frames
from ._frames import Pixels
from ._hub import Checkpoint

RESAMPLE: dict[int, Literal["bicubic", "bilinear", "area"]] = {2: "bilinear", 3: "bicubic", 4: "area"}


@cache
def transformers() -> Any:
    """Import the library on first use, without its progress bars."""
    _torchvision.declare_missing_operators()
    import transformers as library

    library.logging.disable_progress_bar()
    return library


def library_version() -> str:
    """Return the minor version of transformers, because the meaning of hidden states changed between two of them."""
    return "transformers " + ".".join(version("transformers").split(".")[:2])


def read_config(checkpoint: Checkpoint, *, family: str = "", model_types: Sequence[str] = ()) -> Any:
    """Read the configuration of a checkpoint for an encoder that accepts the given model types, or all of them."""
    path = checkpoint.folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        model_type = found["model_type"]
    except FileNotFoundError:
        raise EncoderError(
            f"{checkpoint.title} has no config.json. Expected a model in the format of transformers. For a model with "
            "open_clip_config.json, use the encoder clip:… instead."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{path} is not a configuration of transformers ({type(error).__name__}: {error}). Expected JSON with a "
            "model_type."
        ) from error
    if model_types and model_type not in model_types:
        raise EncoderError(
            f"{checkpoint.title} is a {model_type} model. The encoder {family} reads {', '.join(model_types)}."
        )
    known = transformers().CONFIG_MAPPING
    if model_type not in known:
        raise EncoderError(
            f"{checkpoint.title} is a {model_type!r} model, which transformers {version('transformers')} does not "
            "include. affuse executes no code from a checkpoint."
        )
    return known[model_type].from_dict(found)


def load_model(
    checkpoint: Checkpoint,
    architecture: Any,
    config: Any,
    *,
    optional: tuple[str, ...] = (),
    renamed: Mapping[str, str] | None = None,
) -> Any:
    """Load the weights of a model class of transformers in float32 and set it to evaluation mode.

    Parameters
    ----------
    checkpoint, architecture, config
    optional : tuple of str
        Endings of the names of weights that may be missing because encoding does not use them.
    renamed : mapping of str to str, optional
        Patterns of names in the file, and their replacements in the architecture.
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
        raise EncoderError(f"{checkpoint.title} cannot be loaded: {error}") from error
    finally:
        library.logging.set_verbosity(verbosity)
    missing = sorted(k for k in found["missing_keys"] if not k.endswith(optional))
    if missing:
        raise EncoderError(
            f"{checkpoint.title} lacks {len(missing)} of the weights of {type(model).__name__}, the first is "
            f"{missing[0]}. Expected a complete checkpoint of that model."
        )
    return model.eval()


def read_pixels(checkpoint: Checkpoint) -> Pixels:
    """Read size, crop and normalisation from the image processor of a checkpoint."""
    if not any((checkpoint.folder / f"{kind}_config.json").is_file() for kind in ("preprocessor", "processor")):
        raise EncoderError(
            f"{checkpoint.title} has no preprocessor_config.json, so the preprocessing of its pictures is unknown. "
            "Save the image processor next to the model."
        )
    processor = transformers().AutoImageProcessor.from_pretrained(
        checkpoint.folder, local_files_only=True, trust_remote_code=False, backend="pil"
    )
    return Pixels(
        frames=_frames(processor, checkpoint.title),
        scale=processor.rescale_factor if processor.do_rescale else 1.0,
        mean=tuple(processor.image_mean) if processor.do_normalize else (0.0, 0.0, 0.0),
        std=tuple(processor.image_std) if processor.do_normalize else (1.0, 1.0, 1.0),
    )


def _frames(processor: Any, title: str) -> Frames:
    size = dict(processor.size) if processor.do_resize else {}
    crop = dict(processor.crop_size) if getattr(processor, "do_center_crop", False) else {}
    if crop and crop.get("height") != crop.get("width"):
        raise EncoderError(f"{title} crops pictures to {crop}. affuse supports square crops only.")
    shorter = size.get("shortest_edge")
    if size and not shorter and size.get("height") != size.get("width"):
        raise EncoderError(f"{title} resizes pictures to {size}. affuse supports squares or a shortest edge only.")
    resample = RESAMPLE.get(int(processor.resample)) if size else "bicubic"
    if resample is None:
        raise EncoderError(
            f"{title} resizes pictures with the filter {processor.resample} of Pillow. affuse supports {RESAMPLE}."
        )
    return Frames(
        size=shorter or size.get("height"),
        crop_size=crop.get("height"),
        resample=resample,
        squash=bool(size) and not shorter,
    )
