"""Encoder requests as written after ``-e``, the specification of features, and the stored description of an encoder.

The description (``encoder.json`` beside the features) tells everything that planning needs, so that
a complete store is recognised without loading the checkpoint. This module does not import torch.
"""

import hashlib
import importlib.util
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from .. import __version__
from ..cache.store import FeatureStore
from ..errors import EncoderError
from ..media.faces import FaceOptions
from ..media.inputs import Frames, Sound, inputs_as_json, inputs_from_json


@dataclass(frozen=True)
class Layers:
    """Choice and pooling of hidden states, such as ``last``, ``-5``, ``-4:-1`` or ``all``.

    Attributes
    ----------
    text : str
        Layer index, several indices joined by ``+`` (``-5+-1``), inclusive range (``-4:-1``),
        ``last`` or ``all``. Index 0 is the first hidden state.
    how : {"apart", "sum", "mean"}
        Keep the chosen layers apart, or combine them.
    pool : {"none", "mean"}
        Keep all time steps, or average them into one vector per clip.
    """

    text: str = "last"
    how: Literal["sum", "mean", "apart"] = "apart"
    pool: Literal["none", "mean"] = "none"

    def indices(self, n_layers: int) -> tuple[int, ...]:
        """Return the indices of the chosen hidden states, counted from the first.

        >>> Layers("-4:-1").indices(13)
        (9, 10, 11, 12)
        """
        if self.text == "all":
            return tuple(range(n_layers))
        indices: list[int] = []
        for part in self.text.replace("last", "-1").split("+"):
            match = re.fullmatch(r"(-?\d+)(?::(-?\d+))?", part)
            if not match:
                raise EncoderError(
                    f"Found layers={self.text}; expected an index (-5), a range (-4:-1), a list (-5+-1), last or all."
                )
            first, last = (i + n_layers if i < 0 else i for i in (int(match[1]), int(match[2] or match[1])))
            if not 0 <= first <= last < n_layers:
                raise EncoderError(
                    f"Found layers={self.text}; the encoder has the layers 0 to {n_layers - 1}, or -{n_layers} to -1."
                )
            indices += range(first, last + 1)
        return tuple(sorted(set(indices)))


@dataclass(frozen=True)
class Specification:
    """Identity of an encoder and the choice of its outputs that is stored.

    Attributes
    ----------
    name : str
        Short readable name: ``wav2vec2-base-960h``.
    modality : str
        Modality of the features.
    dim : int
        Number of values per vector.
    rate : float or None
        Vectors per second; None if it depends on the clip, and for one vector per clip.
    identity : mapping
        Everything that changes the values, except layers and pooling.
    layers : tuple of int
        Stored hidden states, counted from the first.
    how : {"apart", "sum", "mean"}
        Combination of the layers; ``apart`` for a single layer.
    pool : {"none", "mean"}
        Pooling over time.
    dtype : {"float16", "float32"}
        Number format on disk.
    """

    name: str
    modality: str
    dim: int
    rate: float | None
    identity: Mapping[str, Any]
    layers: tuple[int, ...]
    how: str
    pool: str
    dtype: str

    @property
    def key(self) -> str:
        """Readable name followed by a digest of everything that changes the values."""
        parts = [self.identity, self.layers, self.how, self.pool, self.dtype]
        text = json.dumps(parts, sort_keys=True)
        return f"{self.name}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"

    @property
    def n_layers(self) -> int | None:
        """Length of the layer axis on disk; None if there is no such axis."""
        return len(self.layers) if self.how == "apart" and len(self.layers) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Return the specification as shards store it."""
        return {**asdict(self), "layers": list(self.layers), "n_layers": self.n_layers}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Return the specification that a shard stores; features of another tool raise `KeyError`."""
        known = {name: stored[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "layers": tuple(stored["layers"])})


DEFAULT = ("wav2vec2:facebook/wav2vec2-base-960h", "clip:ViT-B-32/openai")
STORING_OPTIONS = ("layers", "how", "pool", "store_dtype")
"""Options that every encoder takes: they choose the outputs that are stored."""
ENCODER_FILE = "encoder.json"
LOG = logging.getLogger("affuse")


@dataclass(frozen=True)
class Request:
    """One encoder with its options: ``FAMILY:CHECKPOINT[@REVISION][,option=value…]``.

    Attributes
    ----------
    family : str
        Name of an encoder plug-in, or the dotted path of a class.
    checkpoint : str
        Checkpoint on the hub, local folder, or ``untrained`` for small random weights; empty for
        encoders without weights.
    options : dict
        Options of the encoder family.
    layers : Layers
        Choice and pooling of hidden states.
    store_dtype : {"float16", "float32"}
        Number format on disk.
    """

    family: str
    checkpoint: str
    options: dict[str, Any]
    layers: Layers
    store_dtype: str = "float16"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a request as written on the command line.

        >>> Request.parse("clip:ViT-B-32/openai,fps=4").options
        {'fps': 4}
        """
        head, *settings = text.split(",")
        family, _, checkpoint = head.partition(":")
        options: dict[str, Any] = {}
        for setting in settings:
            name, sign, value = setting.partition("=")
            if not (name and sign and value):
                raise EncoderError(f"Found {setting!r} in {text!r}; expected an option of the form name=value.")
            options[name] = value
        if not family:
            raise EncoderError(f"Found no encoder in {text!r}; expected FAMILY:CHECKPOINT,option=value.")
        if "dtype" in options:
            LOG.warning("The encoder option dtype= is now called store_dtype=; the old name still works.")
            options.setdefault("store_dtype", options.pop("dtype"))
        storing = {name: options.pop(name) for name in STORING_OPTIONS if name in options}
        store_dtype = storing.pop("store_dtype", "float16")
        for name, value, known in (
            ("how", storing.get("how", "apart"), ("sum", "mean", "apart")),
            ("pool", storing.get("pool", "none"), ("none", "mean")),
            ("store_dtype", store_dtype, ("float16", "float32")),
        ):
            if value not in known:
                raise EncoderError(f"Found {name}={value} in {text!r}; expected {', '.join(known)}.")
        if storing.get("layers") == "all":
            storing.setdefault("pool", "mean")
        layers = Layers(storing.pop("layers", "last"), **storing)
        return cls(family, checkpoint, {k: _typed(v) for k, v in options.items()}, layers, store_dtype)

    @property
    def name(self) -> str:
        """Readable first part of the key of the features."""
        path = Path(self.checkpoint).expanduser()
        word = path.name if path.exists() else self.checkpoint.partition("@")[0]
        family = self.family.rpartition(".")[2].lower()
        if word in ("", "untrained"):
            word = f"{family}-{word}" if word else family
        return re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-.") or family

    @property
    def crops_faces(self) -> bool:
        """Whether the encoder sees faces that are cut out of the frames."""
        return self.options.get("crop") == "face"

    def as_dict(self, faces: FaceOptions | None) -> dict[str, Any]:
        """Return everything that must be unchanged for a stored description to remain valid."""
        path = Path(self.checkpoint).expanduser()
        return {
            "family": self.family,
            "checkpoint": str(path.resolve()) if self.checkpoint and path.exists() else self.checkpoint,
            "options": self.options,
            "faces": None if faces is None else faces.as_dict(),
            "affuse": __version__,
            "code": _code_digest(self.family),
        }


def _typed(value: str) -> Any:
    words = {"true": True, "false": False}
    if value.lower() in words:
        return words[value.lower()]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _code_digest(family: str) -> str:
    """Return a digest of the source file of the plug-in: descriptions by older code are not reused."""
    name = family.rpartition(".")[0] if "." in family else f"{__package__}.{family}"
    try:
        found = importlib.util.find_spec(name)
    except ImportError:
        found = None
    if found is None or found.origin is None:
        return ""
    return hashlib.blake2b(Path(found.origin).read_bytes(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class EncoderInfo:
    """Description of a loaded encoder, sufficient to plan an extraction.

    The attributes are those of `Encoder`; `identity` also holds the precision of the forward pass and the face options.
    """

    name: str
    modality: str
    dim: int
    n_layers: int
    rate: float | None
    identity: dict[str, Any]
    inputs: Sound | Frames

    def specification(self, layers: Layers, dtype: str) -> Specification:
        """Return the specification of the features with a choice of layers."""
        chosen = layers.indices(self.n_layers)
        return Specification(
            name=self.name,
            modality=self.modality,
            dim=self.dim,
            rate=self.rate if layers.pool == "none" else None,
            identity=self.identity,
            layers=chosen,
            how=layers.how if len(chosen) > 1 else "apart",
            pool=layers.pool,
            dtype=dtype,
        )

    def record(self, store: FeatureStore, key: str, request: Mapping[str, Any]) -> None:
        """Write the description and its request (`Request.as_dict`) beside the shards of a key, if they changed."""
        info = asdict(self)
        del info["inputs"]
        info["wants"] = inputs_as_json([self.inputs])[0]  # the name in the file format
        text = json.dumps({"asked": request, "files": _local_files(request), "card": info}, indent=1)
        path = store.path / key / ENCODER_FILE
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            store.write_text(key, ENCODER_FILE, text)

    @classmethod
    def recall(cls, store: FeatureStore, request: Mapping[str, Any], *, precision: str | None) -> "EncoderInfo | None":
        """Return the description of features that a store holds for the same request, if it is still valid.

        `request` is a result of `Request.as_dict`; a `precision` of None accepts any.
        """
        for path in sorted(store.path.glob(f"*/{ENCODER_FILE}")):
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                info = stored["card"]
                same = stored["asked"] == request and stored["files"] == _local_files(request)
                has_features = any(path.parent.glob("*.h5"))
                if same and has_features and precision in (None, info["identity"]["precision"]):
                    return cls(inputs=inputs_from_json([info.pop("wants")])[0], **info)
            except (ValueError, KeyError, TypeError):
                continue  # written by another version: the encoder is loaded and described anew
        return None


def _local_files(request: Mapping[str, Any]) -> list[list[Any]]:
    """Return path, size and modification time of every local file that a request depends on."""
    places = [Path(place) for place in (request["checkpoint"], (request["faces"] or {}).get("detector")) if place]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]
