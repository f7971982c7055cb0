"""From a request to an encoder on its device, and the card of it."""

import hashlib
import inspect
import json
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .. import plugins
from ..errors import DeviceError, EncoderError, UnknownOption
from ._encoder import Encoder
from ._request import KEPT, EncoderInfo, Request

ALLOW_PICKLE = "allow_pickle"
KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def load(
    request: Request, asked: Mapping[str, Any], *, device: str, precision: str | None
) -> tuple[Encoder, EncoderInfo, torch.device]:
    """Load an encoder, frozen, and tell what is to be known of it.

    Raises
    ------
    UnknownName, UnknownOption, EncoderError
        No such family, option or checkpoint.
    """
    place = chosen(device)
    if precision is None:
        precision = "float16" if place.type == "cuda" else "float32"
    encoder = made(request).eval().requires_grad_(False).to(place)
    identity = {**encoder.identity(), "precision": precision, "faces": None}
    if asked["faces"] is not None:
        detector = Path(asked["faces"]["detector"]).read_bytes()
        digest = hashlib.blake2b(detector, digest_size=16).hexdigest()
        identity["faces"] = {**asked["faces"], "detector": digest}
    card = EncoderInfo(
        name=request.name,
        modality=encoder.modality,
        dim=encoder.dim,
        n_layers=encoder.n_layers,
        rate=encoder.rate,
        identity=json.loads(json.dumps(identity)),
        wants=encoder.inputs,
    )
    return encoder, card, place


def made(request: Request) -> Encoder:
    """Return the encoder that a request names."""
    family = plugins.find("encoder", request.family)
    maker = family.untrained if request.checkpoint == "untrained" else family.from_pretrained
    known = [name for name in plugins.options(maker) if name != "seed"]
    options = dict(request.options)
    if ALLOW_PICKLE not in known:
        options.pop(ALLOW_PICKLE, None)  # --allow-pickle is said of all encoders at once
    wrong = [name for name in options if name not in known]
    if wrong:
        raise UnknownOption(request.family, wrong, [*known, *KEPT])
    _check_kinds(request.family, options, maker)
    if request.checkpoint == "untrained":
        return family.untrained(**options)  # type: ignore[no-any-return]
    first = next(iter(inspect.signature(maker).parameters.values()))
    if not request.checkpoint and first.default is first.empty:
        examples = ", ".join(facts.request for facts in family.checkpoints[:2])
        raise EncoderError(f"{request.family} needs a checkpoint: {examples or 'a folder'}")
    if not request.checkpoint:
        return family.from_pretrained(**options)  # type: ignore[no-any-return]
    return family.from_pretrained(request.checkpoint, **options)  # type: ignore[no-any-return]


def _check_kinds(family: str, options: Mapping[str, Any], maker: Any) -> None:
    """Compare options with the annotations of the keywords that they fill."""
    parameters = inspect.signature(maker).parameters
    for name, value in options.items():
        annotation = parameters[name].annotation
        kinds = set(typing.get_args(annotation)) - {type(None)} or {annotation}
        if float in kinds:
            kinds.add(int)
        if kinds <= set(KINDS) and type(value) not in kinds:
            wanted = " or ".join(KINDS[k] for k in KINDS if k in kinds and not (k is int and float in kinds))
            raise EncoderError(f"{family}: found {name}={value}; wanted {wanted}")


def chosen(device: str) -> torch.device:
    """Return the device of that name; ``auto``: the quickest there is."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"Unknown device {device!r}; expected auto, cpu, cuda, cuda:1 or mps.") from error
    try:
        return torch.zeros(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"Device {device!r} cannot be used on this machine: {error}") from error


@contextmanager
def threaded(n: int) -> Iterator[None]:
    """Give each forward pass so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
