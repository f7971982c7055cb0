"""VideoMAE (Tong et al., NeurIPS 2022): windows of frames, pooled over space and kept over time.

A window of 16 frames becomes 8 steps of two frames each, the mean over a step's patches. The last
window of a clip repeats the clip's last frame, and the steps made of repeats alone are cut. Where
windows overlap, a step is the mean over the windows that see it. The pooling is ours.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ..errors import EncoderError
from ..tensors import Stream
from ._encoder import CheckpointInfo, Encoder, Frames, Media, Prepared, gathered, seeded
from ._frames import sampled
from ._hub import resolve
from ._transformers import Pixels, configuration, load, pixels, release, transformers


class VideoMae(Encoder):
    """VideoMAE video transformers, two steps each four frames.

    Parameters
    ----------
    model : transformers model
    pixels : Pixels
        The checkpoint's own preprocessing.
    hop : int or None
        Frames from one window to the next, a multiple of a step's frames; None: a whole window.
    fps, frames : float or None, int or None
        Frames a second, or in all; 8 a second where neither is given, so that a window is 2 s.
    crop : str
        ``none`` or ``face``.
    origin : mapping
        Checkpoint and revision, for the key.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "visual"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (
        CheckpointInfo("videomae:MCG-NJU/videomae-base", "", 768, 4, 86, "CC BY-NC 4.0"),
        CheckpointInfo("videomae:MCG-NJU/videomae-large", "", 1024, 4, 304, "CC BY-NC 4.0"),
    )

    def __init__(
        self,
        model: Any,
        *,
        pixels: Pixels,
        hop: int | None = None,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        origin: Mapping[str, str],
    ) -> None:
        super().__init__()
        config = model.config
        self.window, self.step = int(config.num_frames), int(config.tubelet_size)
        self.hop = hop or self.window
        if self.hop % self.step or not 0 < self.hop <= self.window:
            raise EncoderError(f"found hop={hop}; wanted a multiple of {self.step} frames, at most {self.window}")
        self.model, self.pixels, self.origin = model, pixels, dict(origin)
        self.inputs: Frames = sampled(pixels.frames, fps=fps, frames=frames, crop=crop, default=8)
        self.batching: Literal["mask", "equal", "single"] = "mask"
        self.dim, self.n_layers = int(config.hidden_size), int(config.num_hidden_layers) + 1
        self.rate = self.inputs.fps / self.step if self.inputs.fps else None

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str,
        *,
        hop: int | None = None,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        allow_pickle: bool = False,
    ) -> Self:
        files = resolve(checkpoint, allow_pickle=allow_pickle)
        config = configuration(files)
        if config.model_type != "videomae":
            raise EncoderError(f"{checkpoint} is a {config.model_type} model, no VideoMAE")
        model = load(files, transformers().VideoMAEModel, config)
        return cls(model, pixels=pixels(files), hop=hop, fps=fps, frames=frames, crop=crop, origin=files.identity())

    @classmethod
    def untrained(
        cls,
        *,
        seed: int = 0,
        hop: int | None = None,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        allow_pickle: bool = False,
    ) -> Self:
        library = transformers()
        config = library.VideoMAEConfig(
            image_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
        )
        with seeded(seed):
            model = library.VideoMAEModel(config).eval()
        own = Pixels(Frames(size=32, crop_size=32))
        return cls(model, pixels=own, hop=hop, fps=fps, frames=frames, crop=crop, origin={"untrained": str(seed)})

    def identity(self) -> Mapping[str, Any]:
        return {
            "family": "videomae",
            "version": 1,
            **self.origin,
            "hop": self.hop,
            "wants": vars(self.inputs),
            "pixels": self.pixels.identity(),
            "library": release(),
        }

    def prepare(self, media: Media) -> Prepared:
        return self.pixels.prepare(media)

    def forward(self, media: Stream) -> list[Stream]:
        lengths = media.mask.sum(1).tolist()
        starts = [self._starts(n) for n in lengths]
        windows = [
            media.values[row, torch.arange(start, start + self.window).clamp(max=n - 1)]
            for row, n in enumerate(lengths)
            for start in starts[row]
        ]
        times = [self._times(clock[:n]) for clock, n in zip(media.times, lengths, strict=True)]
        streams = []
        for layer in self._layers(windows, media.values):
            clips = torch.split(layer, [len(s) for s in starts])
            rows = [self._joined(*clip) for clip in zip(clips, starts, lengths, strict=True)]
            streams.append(gathered(rows, times))
        return streams

    def _starts(self, n_frames: int) -> list[int]:
        """Return where windows begin, so that each frame is in one."""
        last = max(0, n_frames - self.window + self.hop - 1) // self.hop
        return [i * self.hop for i in range(last + 1)] if n_frames else []

    def _layers(self, windows: list[Tensor], like: Tensor) -> list[Tensor]:
        """Return hidden states pooled over space, each of shape (windows, steps, dim)."""
        n_steps = self.window // self.step
        if not windows:
            return [like.new_zeros(0, n_steps, self.dim)] * self.n_layers
        found = self.model(torch.stack(windows).to(self.model.dtype), output_hidden_states=True)
        return [s.unflatten(1, (n_steps, -1)).mean(2) for s in found.hidden_states]

    def _joined(self, windows: Tensor, starts: list[int], n_frames: int) -> Tensor:
        """Return a clip's steps, shape (steps, dim), those in several windows averaged."""
        n_steps = self.window // self.step
        total = windows.new_zeros((starts[-1] // self.step if starts else 0) + n_steps, self.dim)
        seen = windows.new_zeros(len(total), 1)
        for window, start in zip(windows, starts, strict=True):
            place = slice(start // self.step, start // self.step + n_steps)
            total[place] += window
            seen[place] += 1
        return (total / seen.clamp(min=1))[: -(-n_frames // self.step)]

    def _times(self, clock: Tensor) -> Tensor:
        pairs = torch.split(clock, self.step)
        return torch.stack([p.mean() for p in pairs]) if len(clock) else clock


plugin = VideoMae
