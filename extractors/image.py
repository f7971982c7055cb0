"""Image models of transformers: one vector per frame.

CLIP (Radford et al., ICML 2021), DINOv2 (Oquab et al., TMLR 2024), data2vec (Baevski et al., ICML 2022), ViT and any
other model that takes pictures and returns hidden states of patches.
"""

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from ..errors import EncoderError
from ._encoder import CheckpointInfo, Frames
from ._frames import FrameEncoder, Pixels, pool_tokens
from ._hub import resolve
from ._transformers import library_version, load_model, read_config, read_pixels, transformers

TOWERS = {
    "clip": "CLIPVisionModelWithProjection",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
"""Classes that load the image tower alone, for models that have a text tower as well."""
UNUSED = ("pooler.dense.weight", "pooler.dense.bias", "mask_token")
"""Endings of weights that hidden states do not depend on."""


class ImageEncoder(FrameEncoder):
    """CLIP, DINOv2, data2vec-vision and other image models of transformers.

    Parameters
    ----------
    output : str
        ``cls`` or ``mean`` for the hidden states, pooled by their class token or by the mean over patches;
        ``projected`` for the vector that the model itself returns: CLIP's embedding, DINOv2's normalised class token.
    fps : float, optional
        Sampled frames per second; 4 if neither `fps` nor `frames` is given.
    frames : int, optional
        Number of frames sampled evenly over the clip.
    crop : str
        ``none`` or ``face``.
    allow_pickle : bool
        Whether pickled weights may be loaded. They can execute code.
    """

    family = "image"
    checkpoints = (
        CheckpointInfo("image:openai/clip-vit-large-patch14,output=projected", "CLIP", 768, 4, 304, "MIT"),
        CheckpointInfo("image:facebook/dinov2-large", "DINOv2", 1024, 4, 304, "Apache-2.0"),
        CheckpointInfo("image:facebook/data2vec-vision-base", "data2vec", 768, 4, 86, "Apache-2.0"),
    )

    def __init__(
        self,
        *,
        output: str = "cls",
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        allow_pickle: bool = False,
    ) -> None:
        super().__init__(fps=fps, frames=frames, crop=crop)
        if output not in ("cls", "mean", "projected"):
            raise EncoderError(f"Found output={output}. The encoder image has output=cls, mean and projected.")
        self.output, self.allow_pickle = output, allow_pickle

    def load(self, checkpoint: str) -> None:
        files = resolve(checkpoint, allow_pickle=self.allow_pickle)
        config = read_config(files)
        tower = TOWERS.get(config.model_type)
        if tower:
            config = getattr(config, "vision_config", config)
        optional = () if self.output == "projected" else UNUSED
        model = load_model(files, getattr(transformers(), tower or "AutoModel"), config, optional=optional)
        self.set_model(model, read_pixels(files))
        self.origin = files.identity()

    def build_untrained(self, seed: int) -> None:
        library = transformers()
        config = library.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28)
        self.set_model(library.Dinov2Model(config).eval(), Pixels(Frames(size=28, crop_size=28)))

    def set_model(self, model: Any, pixels: Pixels) -> Self:
        """Use a model of transformers with the preprocessing that it was trained with."""
        config, projected = model.config, self.output == "projected"
        if not projected and not hasattr(config, "num_hidden_layers"):
            raise EncoderError(f"{type(model).__name__} has no layers of a common width. Use output=projected.")
        self.model = model
        self.set_pixels(pixels)
        self.n_layers = 1 if projected else int(config.num_hidden_layers) + 1
        if projected and hasattr(model, "visual_projection"):
            self.dim = int(config.projection_dim)
        else:
            self.dim = int(config.hidden_size if hasattr(config, "hidden_size") else config.hidden_sizes[-1])
        return self

    def identity(self) -> Mapping[str, Any]:
        own = {"output": self.output, "pixels": self.pixels.identity(), "library": library_version()}
        return {**super().identity(), **own}

    def encode_frames(self, frames: Tensor) -> list[Tensor]:
        frames = frames.to(self.model.dtype)
        if self.output == "projected":
            found = self.model(pixel_values=frames)
            vectors = found.get("image_embeds", found.get("pooler_output"))
            if vectors is None:
                raise EncoderError(
                    f"{type(self.model).__name__} returns no vector per picture. Use output=cls or output=mean."
                )
            return [vectors.flatten(1)]
        patch = self.model.config.patch_size
        n_patches = (frames.shape[-2] // patch) * (frames.shape[-1] // patch)
        states = self.model(pixel_values=frames, output_hidden_states=True).hidden_states
        return [pool_tokens(s[:, -n_patches:], s[:, :-n_patches], self.output) for s in states]


plugin = ImageEncoder
