"""A trained model for others: as ONNX, and as a folder for the hub with its card.

ONNX is written after a comparison: on batches of other sizes and lengths than the one it was traced
with, the file has to answer as the model does, or it is not written.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import AffuseError, EnvironmentFailure, RecipeError
from ..media.inputs import Sound
from ..tensors import Stream
from ..training.encoder_stream import EncoderStream
from ..training.model import EmotionModel

PARTS = ("values", "mask", "times")
OUTPUTS = ("probabilities", "dimensions")
SHAPES = ((3, 9, 2), (1, 4, 3), (2, 21, 5), (5, 6, 4))
"""Clips and steps of the batches that file and model are compared on; the first is traced."""
TOLERANCE = 1e-4


class Flat(nn.Module):
    """A model that takes and gives plain tensors, as ONNX does.

    Parameters
    ----------
    model : EmotionModel
    whole : bool
        Begin at the media, encoders included; else at the features that a cache holds.
    """

    def __init__(self, model: EmotionModel, *, whole: bool) -> None:
        super().__init__()
        self.model, self.whole = model, whole

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Take values, mask and times of each stream in turn; return posteriors and dimensions."""
        names = self.model.names
        given = {n: Stream(*tensors[3 * i : 3 * i + 3]) for i, n in enumerate(names)}
        if self.whole:
            decoded = self.model(given)
        else:
            fronts = {n: front(given[n]) for n, front in zip(names, self.model.front, strict=True)}
            decoded = self.model.decode(fronts)
        return decoded.logits.softmax(-1), decoded.dimensions


def to_onnx(model: EmotionModel, path: Path, *, whole: bool = False) -> float:
    """Write a model as ONNX; return the largest difference to it that was seen.

    Inputs are ``STREAM.values`` (batch, time, …), ``STREAM.mask`` and ``STREAM.times`` in seconds,
    both (batch, time); those that the model does not look at are left out. Outputs are
    ``probabilities`` (batch, emotions) and ``dimensions`` (batch, n).

    Parameters
    ----------
    model : EmotionModel
    path : Path
    whole : bool
        With the encoders, from prepared media; else from features.

    Raises
    ------
    RecipeError
        The file's answers differ from the model's, or its operations have no counterpart in ONNX.
    EnvironmentFailure
        onnx or onnxruntime are not installed.
    """
    _installed()
    flat = Flat(model.eval(), whole=whole).eval()
    names = [f"{stream}.{part}" for stream in model.names for part in PARTS]
    told = []
    for write in (_traced, _exported):
        try:
            blob = write(flat, _example(model, SHAPES[0], whole), names)
            worst = max(_difference(flat, blob, _example(model, s, whole), names) for s in SHAPES)
        except Exception as error:  # the exporters raise whatever they stumble over
            if isinstance(error, (AffuseError, KeyboardInterrupt)):
                raise
            told.append(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}")
            continue
        if worst <= TOLERANCE:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
            return worst
        told.append(f"answers differ by {worst:.2g}, {TOLERANCE} allowed")
    raise RecipeError(
        f"{path.name} was not written, ONNX has no true counterpart of it ({'; '.join(told)})"
        + ("; without the encoders it may have: leave --whole away" if whole else "")
    )


def _traced(flat: Flat, example: Sequence[Tensor], names: Sequence[str]) -> bytes:
    import io

    file = io.BytesIO()
    axes = {name: {0: "batch", 1: f"{name.rpartition('.')[0]} steps"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a trace misses, the comparison finds
        torch.onnx.export(
            flat,
            tuple(example),
            file,  # type: ignore[arg-type]
            dynamo=False,
            input_names=list(names),
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
            opset_version=18,
        )
    return file.getvalue()


def _exported(flat: Flat, example: Sequence[Tensor], names: Sequence[str]) -> bytes:
    batch = torch.export.Dim("batch", min=1, max=4096)
    dims = []
    for stream in range(len(names) // 3):
        dims += [{0: batch, 1: torch.export.Dim(f"steps{stream}", min=1, max=1 << 24)}] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            flat,
            tuple(example),
            dynamo=True,
            dynamic_shapes=(tuple(dims),),
            verbose=False,
            input_names=list(names),
            output_names=list(OUTPUTS),
        )
    assert program is not None
    blob: bytes = program.model_proto.SerializeToString()
    return blob


def _difference(flat: Flat, blob: bytes, example: Sequence[Tensor], names: Sequence[str]) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
    wanted = {given.name for given in session.get_inputs()}
    fed = {n: t.numpy() for n, t in zip(names, example, strict=True) if n in wanted}
    with torch.no_grad():
        ours = [t.numpy() for t in flat(*example)]
    theirs = session.run(None, fed)
    gaps = [np.abs(a - b).max(initial=0) for a, b in zip(ours, theirs, strict=True)]
    return float(max(gaps)) if np.isfinite(gaps).all() else float("inf")


def _example(model: EmotionModel, shape: tuple[int, int, int], whole: bool) -> list[Tensor]:
    """Return random clips of different lengths; the third number seeds them."""
    n_clips, n_steps, seed = shape
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    for name, front in zip(model.names, model.front, strict=True):
        encoder = model.attached().get(name) if whole else None
        step, n, clock = _step(encoder, tuple(front.shape), n_steps)  # type: ignore[arg-type]
        lengths = n - torch.arange(n_clips) % 2 * (n // 3)
        mask = torch.arange(n) < lengths[:, None]
        times = ((torch.arange(n) + 0.5) * clock).expand(n_clips, n).masked_fill(~mask, torch.nan)
        values = torch.randn(n_clips, n, *step, generator=generator)
        values = values * mask.reshape(n_clips, n, *[1] * len(step))
        found += [values, mask, times]
    return found


def _step(encoder: EncoderStream | None, shape: tuple[int, ...], n_steps: int) -> tuple[tuple[int, ...], int, float]:
    """Return the shape of a step of a stream, how many there are and how long one lasts."""
    if encoder is None:
        return shape, n_steps, 0.25
    wants = encoder.encoder.inputs
    if isinstance(wants, Sound):
        return (), n_steps * 1600, 1 / wants.sampling_rate
    side = wants.crop_size or wants.size or 224
    return (3, side, side), n_steps, 0.25


def _installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise EnvironmentFailure(f"{error.name} is not installed: pip install affuse[onnx]") from None
