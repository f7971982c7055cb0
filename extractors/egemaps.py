"""eGeMAPS, the extended Geneva Minimalistic Acoustic Parameter Set, computed by openSMILE.

Eyben et al., IEEE Transactions on Affective Computing 7(2), 2016. openSMILE is free for research and private use;
commercial products need a licence from audEERING.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import EncoderError
from ._audio import SoundEncoder
from ._encoder import CheckpointInfo


class Egemaps(SoundEncoder):
    """eGeMAPS voice parameters by openSMILE; needs the extra `opensmile`, non-commercial.

    Parameters
    ----------
    level : str
        ``functionals`` for 88 numbers per clip, ``lld`` for 25 low-level descriptors every 10 ms.

    Raises
    ------
    EncoderError
        openSMILE is not installed, or `level` is unknown.
    """

    family = "egemaps"
    has_weights = False
    min_samples = 960  # 60 ms, the longest window of openSMILE
    checkpoints = (
        CheckpointInfo("", "", 88, None, 0, "openSMILE, non-commercial"),
        CheckpointInfo("egemaps,level=lld", "low-level descriptors", 25, 100, 0, "openSMILE, non-commercial"),
    )

    def __init__(self, *, level: str = "functionals") -> None:
        super().__init__()
        try:
            import opensmile
        except ImportError as error:
            raise EncoderError(
                "eGeMAPS needs openSMILE. Install it with pip install 'affuse[opensmile]'. Its licence allows "
                "research, but no commercial product."
            ) from error
        levels = {"functionals": opensmile.FeatureLevel.Functionals, "lld": opensmile.FeatureLevel.LowLevelDescriptors}
        if level not in levels:
            raise EncoderError(f"Found level={level}. The encoder egemaps has level={' and level='.join(levels)}.")
        self.smile, self.level = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, levels[level]), level
        self.dim, self.rate = len(self.smile.feature_names), 100.0 if level == "lld" else None

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "set": "eGeMAPSv02", "level": self.level}

    def encode_clip(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        found = self.smile.process_signal(samples.cpu().float().numpy(), self.sampling_rate)
        starts = found.index.get_level_values("start").total_seconds()
        ends = found.index.get_level_values("end").total_seconds()
        centres = torch.tensor(((starts + ends) / 2).to_numpy(), dtype=torch.float32)
        return torch.tensor(found.to_numpy("float32", copy=True)), centres


plugin = Egemaps
