"""Export of trained models as ONNX.

A file is kept only if onnxruntime reproduces the model with it, on batches of other sizes and lengths than the batch
that was traced.
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..cache._commit import atomic_write
from ..errors import AffuseError, EnvironmentFailure, RecipeError
from ..media.inputs import Sound
from ..tensors import Stream
from ..training.encoder_stream import EncoderStream
from ..training.model import EmotionModel
from ..training.run import Run

OUTPUTS = ("probabilities", "dimensions")
BATCHES = ((3, 9, 2), (1, 4, 3), (2, 21, 5), (5, 6, 4))
"""Clips, steps and seed of the batches on which file and model are compared; the first one is traced."""
TOLERANCE = 1e-4


class TensorModel(nn.Module):
    """A model with plain tensors as inputs and outputs, as ONNX requires.

    The inputs are media with `include_encoders`, and otherwise features.
    """

    def __init__(self, model: EmotionModel, *, include_encoders: bool) -> None:
        super().__init__()
        self.model, self.include_encoders = model, include_encoders

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and dimensions for the values, mask and times of each stream in turn."""
        streams = {name: Stream(*tensors[3 * i : 3 * i + 3]) for i, name in enumerate(self.model.names)}
        if self.include_encoders:
            decoded = self.model(streams)
        else:
            fronts = zip(self.model.names, self.model.front, strict=True)
            decoded = self.model.decode({name: front(streams[name]) for name, front in fronts})
        return decoded.logits.softmax(-1), decoded.dimensions


def export_onnx(run: Run, folder: str | Path, *, include_encoders: bool = False) -> dict[Path, float]:
    """Write every model of a run as ``seedS-foldF.onnx``.

    Parameters
    ----------
    run : Run
        Run of a single system with neural networks.
    folder : str or Path
        Folder of the ONNX files.
    include_encoders : bool
        Whether the files read prepared media and contain the encoders; otherwise they read features.

    Returns
    -------
    dict of Path to float
        Largest absolute difference between the outputs of each file and of its model.

    Raises
    ------
    RecipeError
        A model cannot be represented in ONNX.
    EnvironmentFailure
        onnx or onnxruntime is not installed.
    """
    paths = {Path(folder) / f"{model.stem}.onnx": model for model in run.folder.models}
    return {
        path: write_onnx(EmotionModel.load(model), path, include_encoders=include_encoders)
        for path, model in paths.items()
    }


def write_onnx(model: EmotionModel, path: Path, *, include_encoders: bool = False) -> float:
    """Write a model as ONNX; return the largest absolute difference between its outputs and the model's.

    The inputs are ``STREAM.values`` with the shape (batch, time, …), ``STREAM.mask`` and ``STREAM.times`` in seconds,
    both with the shape (batch, time); inputs that the model does not use are left out. The outputs are
    ``probabilities`` with the shape (batch, emotions) and ``dimensions`` with the shape (batch, n). See `export_onnx`
    for `include_encoders` and the errors.
    """
    _check_installed()
    wrapped = TensorModel(model.eval(), include_encoders=include_encoders).eval()
    names = [f"{stream}.{part}" for stream in model.names for part in Stream._fields]
    problems = []
    for convert in (_trace, _export):
        try:
            content = convert(wrapped, _example(wrapped, *BATCHES[0]), names)
            worst = max(_difference(wrapped, content, _example(wrapped, *batch), names) for batch in BATCHES)
        except AffuseError:
            raise
        except Exception as error:  # the exporters raise errors of many kinds
            first_line = str(error).strip().partition("\n")[0]
            problems.append(f"{type(error).__name__}: {first_line[:200]}")
            continue
        if worst <= TOLERANCE:
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)
            return worst
        problems.append(f"outputs differ by {worst:.2g}, {TOLERANCE} allowed")
    advice = " Try to export it without the encoders." if include_encoders else ""
    raise RecipeError(f"{path.name} was not written: ONNX cannot represent this model ({'; '.join(problems)}).{advice}")


def _trace(model: TensorModel, example: Sequence[Tensor], names: Sequence[str]) -> bytes:
    file = io.BytesIO()
    axes = {name: {0: "batch", 1: f"{name.rpartition('.')[0]} steps"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the comparison finds what a trace gets wrong
        torch.onnx.export(
            model,
            tuple(example),
            file,  # type: ignore[arg-type]
            dynamo=False,
            input_names=list(names),
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
            opset_version=18,
        )
    return file.getvalue()


def _export(model: TensorModel, example: Sequence[Tensor], names: Sequence[str]) -> bytes:
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = []
    for stream in range(len(names) // 3):
        shapes += [{0: batch, 1: torch.export.Dim(f"steps{stream}", min=1, max=1 << 24)}] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            tuple(example),
            dynamo=True,
            dynamic_shapes=(tuple(shapes),),
            verbose=False,
            input_names=list(names),
            output_names=list(OUTPUTS),
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def _difference(model: TensorModel, content: bytes, example: Sequence[Tensor], names: Sequence[str]) -> float:
    """Return the largest difference between the outputs of file and model; inf if one is not finite."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    used = {each.name for each in session.get_inputs()}
    inputs = {name: tensor.numpy() for name, tensor in zip(names, example, strict=True) if name in used}
    with torch.no_grad():
        expected = [tensor.numpy() for tensor in model(*example)]
    found = session.run(None, inputs)
    gaps = [np.abs(a - b).max(initial=0) for a, b in zip(expected, found, strict=True)]
    return float(max(gaps)) if np.isfinite(gaps).all() else float("inf")


def _example(wrapped: TensorModel, n_clips: int, n_steps: int, seed: int) -> list[Tensor]:
    """Return random values, masks and times of clips with different lengths, for each stream."""
    generator = torch.Generator().manual_seed(seed)
    tensors: list[Tensor] = []
    for name, front in zip(wrapped.model.names, wrapped.model.front, strict=True):
        encoder = wrapped.model.encoder_streams().get(name) if wrapped.include_encoders else None
        step, n, seconds = _step(encoder, tuple(front.shape), n_steps)  # type: ignore[arg-type]
        lengths = n - torch.arange(n_clips) % 2 * (n // 3)
        mask = torch.arange(n) < lengths[:, None]
        times = ((torch.arange(n) + 0.5) * seconds).expand(n_clips, n).masked_fill(~mask, torch.nan)
        values = torch.randn(n_clips, n, *step, generator=generator)
        tensors += [values * mask.reshape(n_clips, n, *[1] * len(step)), mask, times]
    return tensors


def _step(encoder: EncoderStream | None, shape: tuple[int, ...], n_steps: int) -> tuple[tuple[int, ...], int, float]:
    """Return the shape of one step of a stream, the number of steps, and the seconds between them."""
    if encoder is None:
        return shape, n_steps, 0.25
    inputs = encoder.encoder.inputs
    if isinstance(inputs, Sound):
        return (), n_steps * 1600, 1 / inputs.sampling_rate
    side = inputs.crop_size or inputs.size or 224
    return (3, side, side), n_steps, 0.25


def _check_installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise EnvironmentFailure(
            f"Export to ONNX needs {error.name}, which is not installed: pip install affuse[onnx]"
        ) from None
