"""Loading of encoders, and encoding of files and arrays without a feature store."""

import hashlib
import inspect
import json
import tempfile
import threading
import typing
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from .. import plugins
from ..cache.store import Spool
from ..errors import EncoderError, MediaError, UnknownOption
from ..media.decoder import Decoder
from ..media.faces import FaceOptions
from ..media.inputs import MediaSegment, Outcome, Source
from ..media.samplers import sample_array
from ..plugins import check_modality
from ..tensors import Stream, select_device
from ._batching import EncoderPass
from ._encoder import Encoder, pad_sequences
from ._request import STORING_OPTIONS, EncoderInfo, Request, Specification
from ._settings import ExtractionSettings

ALLOW_PICKLE = "allow_pickle"
KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
LOCK = threading.Lock()
_IN_USE: "weakref.WeakValueDictionary[str, Encoder]" = weakref.WeakValueDictionary()


class PretrainedEncoder:
    """A loaded encoder that encodes files and arrays; see `load_encoder`.

    Attributes
    ----------
    encoder : Encoder
        Module on its device, frozen and in evaluation mode.
    specification : Specification
        Layers and pooling of the features, their dimension and rate.
    """

    def __init__(
        self, encoder: Encoder, specification: Specification, *, device: torch.device, faces: FaceOptions | None
    ) -> None:
        self.encoder, self.specification, self.device, self._faces = encoder, specification, device, faces

    def __repr__(self) -> str:
        return f"<PretrainedEncoder {self.specification.name} on {self.device}>"

    def encode(
        self, source: str | Path | BinaryIO | np.ndarray | Sequence[str | Path | BinaryIO], *, rate: float | None = None
    ) -> Stream:
        """Encode a file, several files, or an array.

        Parameters
        ----------
        source : path, open binary file, list of them, or ndarray
            Audio or video files; or mono sound of shape (samples,), float in -1..1; or RGB frames
            of uint8, shape (time, height, width, 3).
        rate : float or None
            Sampling rate of the sound in hertz, or frames per second; required for arrays.

        Returns
        -------
        Stream
            Values of shape (files, time, dim) or (files, time, layers, dim), float32 on the CPU,
            with a mask, and times in seconds. A single file or array is a batch of one.

        Raises
        ------
        MediaError
            A file cannot be decoded; the message names it.
        EncoderError
            The array or its rate does not fit the encoder.

        Examples
        --------
        >>> import affuse
        >>> encoder = affuse.load_encoder("wav2vec2:facebook/wav2vec2-base-960h")  # doctest: +SKIP
        >>> encoder.encode("talk.mp4").values.shape  # doctest: +SKIP
        torch.Size([1, 499, 768])
        """
        with tempfile.TemporaryDirectory(prefix="affuse-") as folder, Spool(Path(folder)) as spool:
            encoding = EncoderPass(
                self.encoder,
                [self.specification],
                device=self.device,
                precision=self.specification.identity["precision"],
                spool=spool,
                settings=ExtractionSettings(faces=self._faces or FaceOptions()),
            )
            several = isinstance(source, Sequence) and not isinstance(source, str)
            sources = cast(Sequence[Any], source if several else [source])
            if isinstance(source, np.ndarray):
                outcomes = [self._add_array(encoding, source, rate)]
            else:
                outcomes = self._add_files(encoding, sources)
            encoding.flush()
            clips = []
            for clip, (each, outcome) in enumerate(zip(sources, outcomes, strict=True)):
                code, reason, features = encoding.result(self.specification, clip, outcome)
                if features is None:
                    raise _naming(each, code, reason)
                clips.append(list(features))
        values = [torch.from_numpy(np.concatenate([piece.values for piece in clip])) for clip in clips]
        times = [torch.from_numpy(np.concatenate([piece.times for piece in clip])) for clip in clips]
        return pad_sequences(values, times)

    def _add_files(self, encoding: EncoderPass, files: Sequence[str | Path | BinaryIO]) -> list[Outcome]:
        for file in files:
            if not isinstance(file, str | Path) and not hasattr(file, "read"):
                raise EncoderError(
                    f"Found a source of type {type(file).__name__}; expected paths, open files or one array."
                )
        sources = [Source(Path(file) if isinstance(file, str) else file) for file in files]
        outcomes = []
        with Decoder([self.encoder.inputs], faces=self._faces) as decoder:
            decoder.queue(sources, [0])
            for clip, file in enumerate(files):
                try:
                    outcomes.append(_add_segments(encoding, clip, decoder.clip()))
                except MediaError as error:
                    raise _naming(file, error.code, error.reason) from error
        return outcomes

    def _add_array(self, encoding: EncoderPass, values: np.ndarray, rate: float | None) -> Outcome:
        if rate is None:
            raise EncoderError("Found an array without its rate. Give rate=, in hertz or frames per second.")
        finder = None if self._faces is None else self._faces.finder()
        try:
            return _add_segments(encoding, 0, sample_array(values, rate, self.encoder.inputs, finder=finder))
        except ValueError as error:
            raise EncoderError(str(error)) from error


def _add_segments(encoding: EncoderPass, clip: int, segments: Iterable[MediaSegment]) -> Outcome:
    for segment in segments:
        encoding.add(clip, segment.start, segment.media[0])
        if segment.outcomes is not None:
            outcome = segment.outcomes[0]
    return outcome


def _naming(source: str | Path | BinaryIO | np.ndarray, code: str, reason: str) -> MediaError:
    if isinstance(source, np.ndarray):
        return MediaError(code, reason)
    name = source if isinstance(source, str | Path) else getattr(source, "name", "the open file")
    return MediaError(code, f"{name}: {reason}")


def load_encoder(request: str | Request, *, device: str = "auto", precision: str | None = None) -> PretrainedEncoder:
    """Load a frozen encoder.

    Parameters
    ----------
    request : str
        ``FAMILY:CHECKPOINT[@REVISION][,option=value…]``, as after ``affuse extract -e``; see
        `affuse.list_encoders`.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    precision : {"float32", "float16", "bfloat16"} or None
        Precision of the forward pass; None uses float16 on CUDA and float32 elsewhere.

    Returns
    -------
    PretrainedEncoder

    Raises
    ------
    UnknownName, UnknownOption, EncoderError
        The family, an option or the checkpoint does not exist.
    DeviceError
        The device cannot be used.

    Examples
    --------
    >>> encoder = load_encoder("logmel")
    >>> frames = encoder.encode(np.zeros(16_000, np.float32), rate=16_000)
    >>> frames.values.shape
    torch.Size([1, 101, 80])
    """
    request = Request.parse(request) if isinstance(request, str) else request
    settings = ExtractionSettings(device=device, precision=precision)  # refuses an unknown precision before loading
    place = select_device(settings.device)
    encoder = load_module(request, place)
    faces = FaceOptions().located() if request.crops_faces else None
    info = describe(request, encoder, device=place, precision=settings.precision, faces=faces)
    specification = info.specification(request.layers, "float32")
    return PretrainedEncoder(encoder, specification, device=place, faces=faces)


def load_module(request: Request, device: torch.device) -> Encoder:
    """Load an encoder, frozen and in evaluation mode, or return it if this process uses it already."""
    name = repr((request.family, request.checkpoint, sorted(request.options.items()), str(device)))
    with LOCK:
        encoder = _IN_USE.get(name)
        if encoder is None:
            encoder = build_encoder(request).eval().requires_grad_(False).to(device)
            _IN_USE[name] = encoder
        return encoder


def describe(
    request: Request, encoder: Encoder, *, device: torch.device, precision: str | None, faces: FaceOptions | None
) -> EncoderInfo:
    """Return the description of a loaded encoder that planning needs.

    Without a `precision`, the forward pass uses float16 on CUDA and float32 elsewhere. `faces` are located.
    """
    if precision is None:
        precision = "float16" if device.type == "cuda" else "float32"
    identity = {**encoder.identity(), "precision": precision, "faces": None}
    if faces is not None and faces.detector is not None:
        digest = hashlib.blake2b(faces.detector.read_bytes(), digest_size=16).hexdigest()
        identity["faces"] = {**faces.as_dict(), "detector": digest}
    return EncoderInfo(
        name=request.name,
        modality=check_modality(encoder.modality, EncoderError),
        dim=encoder.dim,
        n_layers=encoder.n_layers,
        rate=encoder.rate,
        identity=json.loads(json.dumps(identity)),
        inputs=encoder.inputs,
    )


def build_encoder(request: Request) -> Encoder:
    """Return the encoder that a request names, as its family makes it."""
    family = plugins.find("encoder", request.family)
    untrained = request.checkpoint == "untrained"
    maker = family.untrained if untrained else family.from_pretrained
    known = [name for name in plugins.options(maker) if name != "seed"]
    options = dict(request.options)
    if ALLOW_PICKLE not in known:
        options.pop(ALLOW_PICKLE, None)  # --allow-pickle applies to all encoders of a command
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UnknownOption(request.family, unknown, [*known, *STORING_OPTIONS])
    _check_types(request.family, options, maker)
    arguments = [request.checkpoint] if request.checkpoint and not untrained else []
    first = next(iter(inspect.signature(maker).parameters.values()), None)
    required = first is not None and first.kind is first.POSITIONAL_OR_KEYWORD and first.default is first.empty
    if required and not untrained and not arguments:
        examples = ", ".join(info.request for info in family.checkpoints[:2])
        raise EncoderError(
            f"{request.family} needs a checkpoint after the colon, such as {examples or 'a local folder'}."
        )
    return cast(Encoder, maker(*arguments, **options))


def _check_types(family: str, options: Mapping[str, Any], maker: Any) -> None:
    """Compare the values of options with the annotations of the keyword arguments."""
    parameters = plugins.parameters(maker)
    for name, value in options.items():
        annotation = parameters[name].annotation
        kinds = set(typing.get_args(annotation)) - {type(None)} or {annotation}
        if float in kinds:
            kinds.add(int)
        if kinds <= set(KINDS) and type(value) not in kinds:
            expected = " or ".join(KINDS[k] for k in KINDS if k in kinds and not (k is int and float in kinds))
            raise EncoderError(f"Found {name}={value} for {family}; expected {expected}.")


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Set the number of CPU threads of each forward pass for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
