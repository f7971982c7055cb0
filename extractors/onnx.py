"""Any ONNX model that takes a waveform or pictures, run by onnxruntime.

EmotiEffLib (Savchenko, ICML workshop 2023) and audEERING (Wagner et al., TPAMI 2023) publish their emotion models in
this format. Gradients do not flow through such a model, so it cannot be fine-tuned.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..errors import EncoderError
from ..tensors import Stream
from ._audio import over_clips, prepare_waveform
from ._encoder import Frames, Media, Prepared, Sound
from ._frames import FrameEncoder, Pixels
from ._hub import digest_of, resolve

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Onnx(FrameEncoder):
    """Any ONNX model of sound or pictures; needs the extra `onnx`.

    Parameters
    ----------
    file : str
        Name of the model file, needed if the checkpoint contains several.
    output : str
        Name of the output to keep; the first output by default.
    normalise : bool
        Whether sound is brought to zero mean and unit variance.
    sampling_rate : int
        Sampling rate in Hz, for models of sound.
    fps : float, optional
        Sampled frames per second, for models of pictures; 4 if neither `fps` nor `frames` is given.
    frames : int, optional
        Number of frames sampled evenly over the clip, for models of pictures.
    crop : str
        ``none`` or ``face``.

    Notes
    -----
    A model whose input has two axes takes sound of shape (batch, samples). A model whose input has four axes takes
    pictures of shape (batch, 3, height, width), normalised with the mean and standard deviation of ImageNet.
    """

    family = "onnx"
    modality = "either"  # until a model is loaded

    def __init__(
        self,
        *,
        file: str = "",
        output: str = "",
        normalise: bool = True,
        sampling_rate: int = 16_000,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
    ) -> None:
        super().__init__(fps=fps, frames=frames, crop=crop)
        self.file, self.output, self.normalise, self.sampling_rate = file, output, normalise, sampling_rate

    def load(self, checkpoint: str) -> None:
        """Load a model: a file ``model.onnx``, a folder that contains it, or ``org/name`` on the hub."""
        path, self.origin = _locate(checkpoint, self.file)
        self.set_session(_session(path), path.name)

    def build_untrained(self, seed: int) -> None:
        self.set_session(_session(_tiny_model(seed)), "untrained")

    def set_session(self, session: Any, name: str) -> Self:
        """Use an `onnxruntime.InferenceSession`; one forward pass finds the width of its output."""
        outputs = [o.name for o in session.get_outputs()]
        if self.output and self.output not in outputs:
            raise EncoderError(f"{name} has no output {self.output!r}. Its outputs are {', '.join(outputs)}.")
        self.session, self.output, self.input = session, self.output or outputs[0], _checked_input(session, name)
        is_sound = len(self.input.shape) == 2
        example = (1, self.sampling_rate) if is_sound else (1, *self.input.shape[1:])
        shape = self._run(torch.zeros(example)).shape
        if is_sound:
            self.modality, self.inputs = "audio", Sound(self.sampling_rate)  # type: ignore[misc]
            self.dim, self.rate = shape[-1], None
        else:
            self.modality, self.dim = "visual", shape[1:].numel()  # type: ignore[misc]
            frames = Frames(size=example[2], squash=True, resample="bilinear")
            self.set_pixels(Pixels(frames, mean=IMAGENET_MEAN, std=IMAGENET_STD))
        return self

    def identity(self) -> Mapping[str, Any]:
        normalise = self.normalise if self.modality == "audio" else None
        return {**super().identity(), "output": self.output, "normalise": normalise}

    def prepare(self, media: Media) -> Prepared:
        if isinstance(self.inputs, Frames):
            return super().prepare(media)
        return prepare_waveform(media, sampling_rate=self.sampling_rate, normalise=self.normalise)

    def forward(self, media: Stream) -> list[Stream]:
        if isinstance(self.inputs, Frames):
            return super().forward(media)
        return over_clips(media, self.encode_clip, self.dim)

    def encode_frames(self, frames: Tensor) -> Sequence[Tensor]:
        return [self._run(frames).flatten(1).to(frames)]

    def encode_clip(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Encode sound of shape (samples,); see `SoundEncoder.encode_clip`."""
        values = self._run(samples[None])[0].reshape(-1, self.dim)
        step = len(samples) / self.sampling_rate / max(1, len(values))
        return values, (torch.arange(len(values)) + 0.5) * step

    def _run(self, values: Tensor) -> Tensor:
        """Run the session, item by item if the model has a fixed batch size."""
        feed = values.detach().cpu().float().numpy()
        batch = 1 if isinstance(self.input.shape[0], int) else max(1, len(feed))
        found = [
            self.session.run([self.output], {self.input.name: feed[i : i + batch]})[0]
            for i in range(0, len(feed), batch)
        ]
        return torch.from_numpy(np.concatenate(found)).float() if found else torch.zeros(0, self.dim)


def _locate(checkpoint: str, file: str) -> tuple[Path, dict[str, str]]:
    path = Path(checkpoint).expanduser()
    if path.is_file():
        files = sorted([path, *(path.parent / name for name in _external_data(path))])
        return path, {"checkpoint": "local", "revision": "+".join(map(digest_of, files))}
    found = resolve(checkpoint, weights=("*.onnx", "onnx/*.onnx", "*.onnx_data", "onnx/*.onnx_data"))
    models = sorted(found.folder.rglob("*.onnx"))
    chosen = [m for m in models if not file or m.relative_to(found.folder).as_posix() == file]
    if len(chosen) != 1:
        there = ", ".join(m.relative_to(found.folder).as_posix() for m in models)
        raise EncoderError(f"{checkpoint} contains {there}. Choose one of them with the option file=….")
    name = chosen[0].relative_to(found.folder).as_posix()
    return chosen[0], {**found.identity(), "file": name}


def _session(model: Path | bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EncoderError("ONNX models need onnxruntime. Install it with pip install 'affuse[onnx]'.") from error
    if isinstance(model, Path):
        _external_data(model)
    providers = [
        p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in onnxruntime.get_available_providers()
    ]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), settings, providers=providers
        )
    except RuntimeError as error:
        raise EncoderError(f"onnxruntime cannot run {model!s:.80}: {error}") from error


def _checked_input(session: Any, name: str) -> Any:
    """Return the only input of the model, which takes sound or pictures."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) not in (2, 4) or (len(shape) == 4 and shape[1] != 3):
        found = ", ".join(f"{i.name} {i.shape}" for i in inputs)
        raise EncoderError(
            f"{name} takes {found}. Expected one input, of sound (batch, samples) or of pictures "
            "(batch, 3, height, width)."
        )
    if len(shape) == 4 and (not isinstance(shape[2], int) or shape[2] != shape[3]):
        raise EncoderError(f"{name} takes pictures of {shape[2]} x {shape[3]}. Expected squares of a fixed size.")
    return inputs[0]


def _external_data(path: Path) -> list[str]:
    """Return the names of the files with weights that a model refers to; it must not read files outside its folder."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise EncoderError("ONNX models need onnx. Install it with pip install 'affuse[onnx]'.") from error
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except (OSError, DecodeError) as error:
        raise EncoderError(f"{path} is not an ONNX model.") from error
    names = {entry.value for tensor in _tensors(graph) for entry in tensor.external_data if entry.key == "location"}
    for name in names:
        outside = PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
        if outside or "\\" in name or not (path.parent / name).is_file():
            raise EncoderError(
                f"{path.name} refers to weights in {name!r}. Expected a file in the folder of the model or below it."
            )
    return sorted(names)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the tensors of a graph and of the graphs nested in its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    yield from _tensors(inner)


def _tiny_model(seed: int) -> bytes:
    """Return a model of sound that multiplies the mean absolute amplitude of a clip by eight random weights."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(seed).normal(size=(1, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Abs", ["sound"], ["loud"]),
        helper.make_node("ReduceMean", ["loud"], ["level"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["level", "weights"], ["vector"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


plugin = Onnx
