"""eGeMAPS, the Geneva minimalistic set of voice parameters, through openSMILE.

Eyben et al., IEEE Transactions on Affective Computing 7(2), 2016. openSMILE is audEERING's, free
for research and for private use; commercial products need a licence from audEERING.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ..errors import EncoderError
from ..tensors import Stream
from ._audio import waveform
from ._encoder import CheckpointInfo, Encoder, Media, Prepared, Sound, gathered

SAMPLING_RATE = 16_000
SHORTEST = int(0.06 * SAMPLING_RATE)
"""Samples of openSMILE's longest window."""


class Egemaps(Encoder):
    """eGeMAPS voice parameters by openSMILE; the optional extra `opensmile`, non-commercial.

    Parameters
    ----------
    level : str
        ``functionals``, 88 numbers a clip; or ``lld``, 25 numbers every 10 ms.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "audio"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (
        CheckpointInfo("", "", 88, None, 0, "openSMILE, non-commercial"),
        CheckpointInfo("egemaps,level=lld", "low-level descriptors", 25, 100, 0, "openSMILE, non-commercial"),
    )

    def __init__(self, smile: Any, *, level: str = "functionals") -> None:
        super().__init__()
        self.smile, self.level = smile, level
        self.batching: Literal["mask", "equal", "single"] = "mask"
        self.dim, self.n_layers = len(smile.feature_names), 1
        self.rate = 100.0 if level == "lld" else None
        self.inputs: Sound = Sound(SAMPLING_RATE)

    @classmethod
    def from_pretrained(cls, checkpoint: str = "", *, level: str = "functionals") -> Self:
        """Make the descriptor; there is nothing to load.

        Raises
        ------
        EncoderError
            openSMILE is not installed.
        """
        try:
            import opensmile
        except ImportError as error:
            raise EncoderError(
                "eGeMAPS needs openSMILE: pip install 'affuse[opensmile]'; its licence allows "
                "research, and no commercial product"
            ) from error
        levels = {"functionals": opensmile.FeatureLevel.Functionals, "lld": opensmile.FeatureLevel.LowLevelDescriptors}
        if level not in levels:
            raise EncoderError(f"egemaps knows level={' and level='.join(levels)}, found {level}")
        smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, levels[level])
        return cls(smile, level=level)

    @classmethod
    def untrained(cls, *, seed: int = 0, level: str = "functionals") -> Self:
        """Make the descriptor; the seed changes nothing."""
        return cls.from_pretrained(level=level)

    def identity(self) -> Mapping[str, Any]:
        return {"family": "egemaps", "version": 1, "set": "eGeMAPSv02", "level": self.level}

    def prepare(self, media: Media) -> Prepared:
        return waveform(media, self.inputs, shortest=SHORTEST)

    def forward(self, media: Stream) -> list[Stream]:
        rows = [self._described(clip[: int(mask.sum())]) for clip, mask in zip(media.values, media.mask, strict=True)]
        stream = gathered([row[0] for row in rows], [row[1] for row in rows])
        return [stream.to(media.values.device)]

    def _described(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        if len(samples) == 0:
            return torch.zeros(0, self.dim), torch.zeros(0)
        found = self.smile.process_signal(samples.cpu().float().numpy(), SAMPLING_RATE)
        starts = found.index.get_level_values("start").total_seconds()
        ends = found.index.get_level_values("end").total_seconds()
        centres = torch.tensor(((starts + ends) / 2).to_numpy(), dtype=torch.float32)
        return torch.tensor(found.to_numpy("float32", copy=True)), centres


plugin = Egemaps
