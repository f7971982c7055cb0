"""Any ONNX model: waveform or pictures in, vector or sequence out, through onnxruntime.

That is how EmotiEffLib (Savchenko, ICML workshop 2023) and audEERING (Wagner et al., TPAMI 2023)
publish their emotion models. No gradients flow through it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ..errors import EncoderError
from ..tensors import Stream
from ._audio import waveform
from ._encoder import CheckpointInfo, Encoder, Frames, Media, Prepared, Sound, gathered
from ._frames import over_frames, sampled, to_channels
from ._hub import digest_of, resolve

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Onnx(Encoder):
    """Any ONNX model of sound or pictures; the optional extra `onnx`.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    shape : tuple of int
        Of what the session gives for one second of sound or one picture, without the first axis.
    output : str
        Which of the model's outputs.
    normalise : bool
        Sound is brought to zero mean and unit variance first.
    sampling_rate : int
        Hertz, for models of sound.
    fps, frames : float or None, int or None
        Frames a second, or in all; 4 a second where neither is given.
    crop : str
        ``none`` or ``face``.
    origin : mapping
        Checkpoint and revision, for the key.

    Notes
    -----
    A model with an input of two axes takes sound, (batch, samples); one of four takes pictures,
    (batch, 3, height, width), normalised as ImageNet's are.
    """

    modality: ClassVar[Literal["audio", "visual"]]
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = ()

    def __init__(
        self,
        session: Any,
        *,
        shape: tuple[int, ...],
        output: str,
        normalise: bool = True,
        sampling_rate: int = 16_000,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        origin: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.session, self.output, self.normalise = session, output, normalise
        self.origin = dict(origin)
        self.input = session.get_inputs()[0]
        self.modality = "audio" if len(self.input.shape) == 2 else "visual"  # type: ignore[misc]
        self.batching: Literal["mask", "equal", "single"] = "mask"
        self.n_layers, self.dim = 1, _width(self.modality, shape)
        if self.modality == "audio":
            self.inputs: Sound | Frames = Sound(sampling_rate)
            self.rate = None
        else:
            side = int(self.input.shape[2])
            pictures = Frames(size=side, squash=True, resample="bilinear")
            self.inputs = sampled(pictures, fps=fps, frames=frames, crop=crop, default=4)
            self.rate = self.inputs.fps

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str,
        *,
        file: str = "",
        output: str = "",
        normalise: bool = True,
        sampling_rate: int = 16_000,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
    ) -> Self:
        """Load a model.

        Parameters
        ----------
        checkpoint : str
            A file ``model.onnx``, a folder that holds it, or ``org/name`` on the hub.
        file : str
            Which file, where there are several.
        output : str
            Name of the output to keep; the first one where none is given.

        Raises
        ------
        EncoderError
            onnxruntime is not installed; or the model points to files outside its folder, takes
            neither sound nor pictures, or has no such output.
        """
        path, origin = _located(checkpoint, file)
        session = _session(path)
        names = [o.name for o in session.get_outputs()]
        if output and output not in names:
            raise EncoderError(f"{path.name} has no output {output!r}; it has {', '.join(names)}")
        output = output or names[0]
        (shape,) = {o.shape for o in session.run([output], _probe(session, path, sampling_rate))}
        return cls(
            session,
            shape=shape[1:],
            output=output,
            normalise=normalise,
            sampling_rate=sampling_rate,
            fps=fps,
            frames=frames,
            crop=crop,
            origin=origin,
        )

    @classmethod
    def untrained(
        cls,
        *,
        seed: int = 0,
        file: str = "",
        output: str = "",
        normalise: bool = True,
        sampling_rate: int = 16_000,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
    ) -> Self:
        """Make a model of sound: eight windowed means of the waveform, weighed at random."""
        return cls(
            _session(_tiny(seed)),
            shape=(8,),
            output="vector",
            normalise=normalise,
            sampling_rate=sampling_rate,
            fps=fps,
            frames=frames,
            crop=crop,
            origin={"untrained": str(seed)},
        )

    def identity(self) -> Mapping[str, Any]:
        return {
            "family": "onnx",
            "version": 1,
            **self.origin,
            "output": self.output,
            "normalise": self.normalise if self.modality == "audio" else None,
            "wants": vars(self.inputs),
        }

    def prepare(self, media: Media) -> Prepared:
        if isinstance(self.inputs, Frames):
            mean, std = IMAGENET
            return to_channels(media, scale=1 / 255, mean=mean, std=std)
        return waveform(media, self.inputs, shortest=1, normalise=self.normalise)

    def forward(self, media: Stream) -> list[Stream]:
        if isinstance(self.inputs, Frames):
            return over_frames(media, lambda frames: [self._run(frames).flatten(1).to(frames)])
        rows, times = [], []
        for clip, n_samples in zip(media.values, media.mask.sum(1).tolist(), strict=True):
            found = torch.zeros(0, self.dim)
            if n_samples:
                found = self._run(clip[None, :n_samples])[0].reshape(-1, self.dim)
            step = n_samples / self.inputs.sampling_rate / max(1, len(found))
            rows.append(found)
            times.append((torch.arange(len(found)) + 0.5) * step)
        return [gathered(rows, times).to(media.values.device)]

    def _run(self, values: Tensor) -> Tensor:
        """Run the session, one item at a time where the model fixes its batch."""
        feed = values.detach().cpu().float().numpy()
        at_once = 1 if isinstance(self.input.shape[0], int) else max(1, len(feed))
        found = [
            self.session.run([self.output], {self.input.name: feed[i : i + at_once]})[0]
            for i in range(0, len(feed), at_once)
        ]
        if not found:
            return torch.zeros(0, self.dim)
        return torch.from_numpy(np.concatenate(found)).float()


def _width(modality: str, shape: tuple[int, ...]) -> int:
    return int(shape[-1] if modality == "audio" else np.prod(shape))


def _located(checkpoint: str, file: str) -> tuple[Path, dict[str, str]]:
    path = Path(checkpoint).expanduser()
    if path.is_file():
        files = sorted([path, *(path.parent / name for name in _outside_data(path))])
        return path, {"checkpoint": "local", "revision": "+".join(map(digest_of, files))}
    found = resolve(checkpoint, weights=("*.onnx", "onnx/*.onnx", "*.onnx_data", "onnx/*.onnx_data"))
    models = sorted(found.folder.rglob("*.onnx"))
    chosen = [m for m in models if not file or m.relative_to(found.folder).as_posix() == file]
    if len(chosen) != 1:
        there = ", ".join(m.relative_to(found.folder).as_posix() for m in models)
        raise EncoderError(f"{checkpoint} holds {there}; say which one by file=…")
    name = chosen[0].relative_to(found.folder).as_posix()
    return chosen[0], {**found.identity(), "file": name}


def _session(model: Path | bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EncoderError("ONNX models need onnxruntime: pip install 'affuse[onnx]'") from error
    if isinstance(model, Path):
        _outside_data(model)
    own = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in onnxruntime.get_available_providers()]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), settings, providers=own)
    except RuntimeError as error:
        raise EncoderError(f"{model!s:.80} is no model that onnxruntime runs: {error}") from error


def _probe(session: Any, path: Path, sampling_rate: int) -> dict[str, np.ndarray]:
    """Return one second of silence or one grey picture, as the model's only input."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) not in (2, 4) or (len(shape) == 4 and shape[1] != 3):
        found = ", ".join(f"{i.name} {i.shape}" for i in inputs)
        raise EncoderError(
            f"{path.name} takes {found}; wanted one input, of sound (batch, samples) or of "
            "pictures (batch, 3, height, width)"
        )
    if len(shape) == 4 and (not isinstance(shape[2], int) or shape[2] != shape[3]):
        raise EncoderError(f"{path.name} takes pictures of {shape[2]} x {shape[3]}; wanted squares of one size")
    sound = (1, sampling_rate)
    return {inputs[0].name: np.zeros(sound if len(shape) == 2 else (1, *shape[1:]), np.float32)}


def _outside_data(path: Path) -> list[str]:
    """Return the files that hold a model's weights beside it.

    Raises
    ------
    EncoderError
        One lies outside the model's folder: a model from a stranger may not read other files.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise EncoderError("ONNX models need onnx: pip install 'affuse[onnx]'") from error
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except (OSError, DecodeError) as error:
        raise EncoderError(f"{path} is no ONNX model") from error
    names = {entry.value for tensor in _tensors(graph) for entry in tensor.external_data if entry.key == "location"}
    for name in names:
        beside = path.parent / name
        astray = PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
        if astray or "\\" in name or not beside.is_file():
            raise EncoderError(f"{path.name} keeps weights in {name!r}; wanted a file that lies beside the model")
    return sorted(names)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every tensor of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    yield from _tensors(inner)


def _tiny(seed: int) -> bytes:
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
