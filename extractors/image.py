"""ImageEncoder models of transformers, a vector a frame: CLIP, DINOv2, data2vec-vision, ViT.

DINOv2 (Oquab et al., TMLR 2024), data2vec (Baevski et al., ICML 2022), CLIP (Radford et al., ICML
2021); any other model that takes pictures and gives hidden states of patches goes the same way.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from torch import Tensor

from ..errors import EncoderError
from ..tensors import Stream
from ._encoder import CheckpointInfo, Encoder, Frames, Media, Prepared, seeded
from ._frames import over_frames, pooled, sampled
from ._hub import resolve
from ._transformers import Pixels, configuration, load, pixels, release, transformers

TOWERS = {
    "clip": "CLIPVisionModelWithProjection",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
"""Models with a text tower too, of which the picture's half is loaded alone."""
UNUSED = ("pooler.dense.weight", "pooler.dense.bias", "mask_token")


class ImageEncoder(Encoder):
    """CLIP, DINOv2, data2vec-vision and other image models of transformers.

    Parameters
    ----------
    model : transformers model
    pixels : Pixels
        The checkpoint's own preprocessing.
    output : str
        Hidden states, their ``cls`` token or the ``mean`` over patches; or ``projected``, the
        model's own vector: CLIP's embedding, DINOv2's normalised class token.
    fps, frames : float or None, int or None
        Frames a second, or in all; 4 a second where neither is given.
    crop : str
        ``none`` or ``face``.
    origin : mapping
        Checkpoint and revision, for the key.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "visual"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (
        CheckpointInfo("image:openai/clip-vit-large-patch14,output=projected", "CLIP", 768, 4, 304, "MIT"),
        CheckpointInfo("image:facebook/dinov2-large", "DINOv2", 1024, 4, 304, "Apache-2.0"),
        CheckpointInfo("image:facebook/data2vec-vision-base", "data2vec", 768, 4, 86, "Apache-2.0"),
    )

    def __init__(
        self,
        model: Any,
        *,
        pixels: Pixels,
        output: str = "cls",
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        origin: Mapping[str, str],
    ) -> None:
        super().__init__()
        if output not in ("cls", "mean", "projected"):
            raise EncoderError(f"image knows output=cls, mean and projected, found output={output}")
        self.model, self.pixels, self.output, self.origin = model, pixels, output, dict(origin)
        self.inputs: Frames = sampled(pixels.frames, fps=fps, frames=frames, crop=crop, default=4)
        self.batching: Literal["mask", "equal", "single"] = "mask"
        config = model.config
        if output != "projected" and not hasattr(config, "num_hidden_layers"):
            raise EncoderError(f"{type(model).__name__} has no layers of one width; say output=projected")
        projected = output == "projected"
        self.n_layers = 1 if projected else int(config.num_hidden_layers) + 1
        self.dim = _width(model, projected=projected)
        self.rate = self.inputs.fps

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str,
        *,
        output: str = "cls",
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        allow_pickle: bool = False,
    ) -> Self:
        files = resolve(checkpoint, allow_pickle=allow_pickle)
        config = configuration(files)
        tower = TOWERS.get(config.model_type)
        if tower:
            config = getattr(config, "vision_config", config)
        architecture = getattr(transformers(), tower or "AutoModel")
        spare = () if output == "projected" else UNUSED
        model = load(files, architecture, config, spare=spare)
        return cls(
            model, pixels=pixels(files), output=output, fps=fps, frames=frames, crop=crop, origin=files.identity()
        )

    @classmethod
    def untrained(
        cls,
        *,
        seed: int = 0,
        output: str = "cls",
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        allow_pickle: bool = False,
    ) -> Self:
        library = transformers()
        config = library.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28)
        with seeded(seed):
            model = library.Dinov2Model(config).eval()
        own = Pixels(Frames(size=28, crop_size=28))
        return cls(model, pixels=own, output=output, fps=fps, frames=frames, crop=crop, origin={"untrained": str(seed)})

    def identity(self) -> Mapping[str, Any]:
        return {
            "family": "image",
            "version": 1,
            **self.origin,
            "output": self.output,
            "wants": vars(self.inputs),
            "pixels": self.pixels.identity(),
            "library": release(),
        }

    def prepare(self, media: Media) -> Prepared:
        return self.pixels.prepare(media)

    def forward(self, media: Stream) -> list[Stream]:
        return over_frames(media, self._layers)

    def _layers(self, frames: Tensor) -> list[Tensor]:
        frames = frames.to(self.model.dtype)
        if self.output == "projected":
            found = self.model(pixel_values=frames)
            own = found.get("image_embeds", found.get("pooler_output"))
            if own is None:
                raise EncoderError(
                    f"{type(self.model).__name__} has no vector of its own; say output=cls or output=mean"
                )
            return [own.flatten(1)]
        patch = self.model.config.patch_size
        n_patches = (frames.shape[-2] // patch) * (frames.shape[-1] // patch)
        states = self.model(pixel_values=frames, output_hidden_states=True).hidden_states
        return [pooled(s[:, -n_patches:], s[:, :-n_patches], self.output) for s in states]


def _width(model: Any, *, projected: bool) -> int:
    config = model.config
    if projected and hasattr(model, "visual_projection"):
        return int(config.projection_dim)
    return int(config.hidden_size if hasattr(config, "hidden_size") else config.hidden_sizes[-1])


plugin = ImageEncoder
