"""VideoMAE (Tong et al., NeurIPS 2022): windows of frames, averaged over space and kept over time.

A window of 16 frames becomes 8 time steps of two frames each; a step is the mean over its patches. The last window of
a clip is filled by repeating the last frame, and steps that consist of repeated frames only are dropped. Where windows
overlap, a step is the mean over the windows that contain it. The paper pools over all patches of a window; keeping
time and averaging overlaps is our interpretation.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from ..errors import EncoderError
from ..tensors import Stream
from ._encoder import CheckpointInfo, Frames, pad_sequences
from ._frames import FrameEncoder, Pixels
from ._hub import resolve
from ._transformers import library_version, load_model, read_config, read_pixels, transformers


class VideoMae(FrameEncoder):
    """VideoMAE video transformers, one feature vector per two frames.

    Parameters
    ----------
    hop : int, optional
        Number of frames from one window to the next, a multiple of the frames per step; a whole window by default.
    fps : float, optional
        Sampled frames per second; 8 if neither `fps` nor `frames` is given, so that a window covers 2 s.
    frames : int, optional
        Number of frames sampled evenly over the clip.
    crop : str
        ``none`` or ``face``.
    allow_pickle : bool
        Whether pickled weights may be loaded. They can execute code.
    """

    family = "videomae"
    default_fps = 8
    checkpoints = (
        CheckpointInfo("videomae:MCG-NJU/videomae-base", "", 768, 4, 86, "CC BY-NC 4.0"),
        CheckpointInfo("videomae:MCG-NJU/videomae-large", "", 1024, 4, 304, "CC BY-NC 4.0"),
    )

    def __init__(
        self,
        *,
        hop: int | None = None,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        allow_pickle: bool = False,
    ) -> None:
        super().__init__(fps=fps, frames=frames, crop=crop)
        self.hop, self.allow_pickle = hop or 0, allow_pickle

    def load(self, checkpoint: str) -> None:
        files = resolve(checkpoint, allow_pickle=self.allow_pickle)
        config = read_config(files, family=self.family, model_types=("videomae",))
        self.set_model(load_model(files, transformers().VideoMAEModel, config), read_pixels(files))
        self.origin = files.identity()

    def build_untrained(self, seed: int) -> None:
        library = transformers()
        config = library.VideoMAEConfig(
            image_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
        )
        self.set_model(library.VideoMAEModel(config).eval(), Pixels(Frames(size=32, crop_size=32)))

    def set_model(self, model: Any, pixels: Pixels) -> Self:
        """Use a model of transformers with the preprocessing that it was trained with."""
        self.model, config = model, model.config
        self.set_pixels(pixels)
        self.dim, self.n_layers = int(config.hidden_size), int(config.num_hidden_layers) + 1
        self.window, self.step = int(config.num_frames), int(config.tubelet_size)
        self.hop = self.hop or self.window
        if self.hop % self.step or not 0 < self.hop <= self.window:
            raise EncoderError(
                f"Found hop={self.hop}. Expected a positive multiple of {self.step} frames, at most {self.window}."
            )
        self.rate = self.fps / self.step if self.fps else None
        return self

    def identity(self) -> Mapping[str, Any]:
        own = {"hop": self.hop, "pixels": self.pixels.identity(), "library": library_version()}
        return {**super().identity(), **own}

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
            rows = [self._join(*clip) for clip in zip(clips, starts, lengths, strict=True)]
            streams.append(pad_sequences(rows, times))
        return streams

    def _starts(self, n_frames: int) -> list[int]:
        """Return the first frame of each window; every frame lies in at least one window."""
        last = max(0, n_frames - self.window + self.hop - 1) // self.hop
        return [i * self.hop for i in range(last + 1)] if n_frames else []

    def _layers(self, windows: list[Tensor], like: Tensor) -> list[Tensor]:
        """Return the hidden states averaged over space, each of shape (windows, steps, dim)."""
        n_steps = self.window // self.step
        if not windows:
            return [like.new_zeros(0, n_steps, self.dim)] * self.n_layers
        found = self.model(torch.stack(windows).to(self.model.dtype), output_hidden_states=True)
        return [s.unflatten(1, (n_steps, -1)).mean(2) for s in found.hidden_states]

    def _join(self, windows: Tensor, starts: list[int], n_frames: int) -> Tensor:
        """Return the steps of one clip, shape (steps, dim), averaged where windows overlap."""
        n_steps = self.window // self.step
        total = windows.new_zeros((starts[-1] // self.step if starts else 0) + n_steps, self.dim)
        count = windows.new_zeros(len(total), 1)
        for window, start in zip(windows, starts, strict=True):
            place = slice(start // self.step, start // self.step + n_steps)
            total[place] += window
            count[place] += 1
        return (total / count.clamp(min=1))[: -(-n_frames // self.step)]

    def _times(self, clock: Tensor) -> Tensor:
        steps = torch.split(clock, self.step)
        return torch.stack([step.mean() for step in steps]) if len(clock) else clock


plugin = VideoMae
