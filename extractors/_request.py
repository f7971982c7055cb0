"""What a user asks for after ``-e``, and the card that answers it without loading a checkpoint.

Free of torch: a complete cache is recognised in the time it takes to read its indices.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from .. import __version__
from ..cache.store import FeatureStore
from ..errors import EncoderError
from ..media.inputs import Frames, Sound
from ..media.worker import packed, unpacked
from ._features import Layers, Specification

DEFAULT = ("wav2vec2:facebook/wav2vec2-base-960h", "clip:ViT-B-32/openai")
KEPT = ("layers", "how", "pool", "dtype")
CARD = "encoder.json"


@dataclass(frozen=True)
class Request:
    """One encoder with its options: ``FAMILY:CHECKPOINT[@REVISION][,option=value…]``.

    Attributes
    ----------
    family : str
        Name of an encoder plug-in, or the dotted path of a class.
    checkpoint : str
        ``untrained`` for tiny random weights; empty where there are none to load.
    options : dict
        The encoder's own.
    layers : Layers
    dtype : str
        ``float16`` or ``float32``, as stored.
    """

    family: str
    checkpoint: str
    options: dict[str, Any]
    layers: Layers
    dtype: str = "float16"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a request as it stands on the command line.

        Raises
        ------
        EncoderError
            Not of that form.

        >>> Request.parse("clip:ViT-B-32/openai,fps=4").options
        {'fps': 4}
        """
        head, *settings = text.split(",")
        family, _, checkpoint = head.partition(":")
        options: dict[str, Any] = {}
        for setting in settings:
            name, sign, value = setting.partition("=")
            if not (name and sign and value):
                raise EncoderError(f"{text!r}: {setting!r} is no option; wanted name=value")
            options[name] = value
        if not family:
            raise EncoderError(f"{text!r} names no encoder; wanted FAMILY:CHECKPOINT,option=value")
        kept = {name: options.pop(name) for name in KEPT if name in options}
        dtype = kept.pop("dtype", "float16")
        for name, value, known in (
            ("how", kept.get("how", "apart"), ("sum", "mean", "apart")),
            ("pool", kept.get("pool", "none"), ("none", "mean")),
            ("dtype", dtype, ("float16", "float32")),
        ):
            if value not in known:
                raise EncoderError(f"{text!r}: {name}={value}; wanted {', '.join(known)}")
        if kept.get("layers") == "all":
            kept.setdefault("pool", "mean")
        layers = Layers(kept.pop("layers", "last"), **kept)
        return cls(family, checkpoint, {k: _typed(v) for k, v in options.items()}, layers, dtype)

    @property
    def name(self) -> str:
        """What the key begins with."""
        place = Path(self.checkpoint).expanduser()
        word = place.name if place.exists() else self.checkpoint.partition("@")[0]
        family = self.family.rpartition(".")[2].lower()
        if word in ("", "untrained"):
            word = f"{family}-{word}" if word else family
        return re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-.") or family

    def asked(self, faces: Mapping[str, str] | None) -> dict[str, Any]:
        """Return what has to be the same for a recorded card to answer.

        Parameters
        ----------
        faces : mapping or None
            ``detector``, a path, and ``no_face``; None where faces are not cut out.
        """
        place = Path(self.checkpoint).expanduser()
        checkpoint = str(place.resolve()) if self.checkpoint and place.exists() else self.checkpoint
        return {
            "family": self.family,
            "checkpoint": checkpoint,
            "options": self.options,
            "faces": None if faces is None else dict(faces),
            "affuse": __version__,
            "code": _code(self.family),
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


def _code(family: str) -> str:
    """Return a digest of the plug-in's file: a changed encoder is asked anew."""
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
    """What is to be known of a loaded encoder to plan its work.

    Attributes
    ----------
    name, modality : str
    dim, n_layers : int
    rate : float or None
    identity : dict
        With the precision of the forward pass and, for face crops, the detector.
    wants : Sound or Frames
    """

    name: str
    modality: str
    dim: int
    n_layers: int
    rate: float | None
    identity: dict[str, Any]
    wants: Sound | Frames

    def specification(self, layers: Layers, dtype: str) -> Specification:
        """Return what the encoder's features are with that choice of layers."""
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

    def record(self, store: FeatureStore, key: str, asked: Mapping[str, Any]) -> None:
        """Write the card beside a key's shards, once."""
        facts = {**asdict(self), "wants": packed([self.wants])[0]}
        text = json.dumps({"asked": asked, "files": _files(asked), "card": facts}, indent=1)
        place = store.path / key / CARD
        if not place.exists() or place.read_text(encoding="utf-8") != text:
            store.write_text(key, CARD, text)

    @classmethod
    def recall(cls, store: FeatureStore, asked: Mapping[str, Any], *, precision: str | None) -> "EncoderInfo | None":
        """Return the card that a store recorded for the same request, if it still holds.

        Parameters
        ----------
        precision : str or None
            None: whichever was used.
        """
        for place in sorted(store.path.glob(f"*/{CARD}")):
            try:
                found = json.loads(place.read_text(encoding="utf-8"))
                facts = found["card"]
                same = found["asked"] == asked and found["files"] == _files(asked)
                if same and precision in (None, facts["identity"]["precision"]):
                    return cls(**{**facts, "wants": unpacked([facts["wants"]])[0]})
            except (ValueError, KeyError, TypeError):
                continue  # another version's card: the encoder is loaded and asked
        return None


def _files(asked: Mapping[str, Any]) -> list[list[Any]]:
    """Return path, size and time of change of every local file that a request stands on."""
    places = [asked["checkpoint"], (asked["faces"] or {}).get("detector", "")]
    return [list(about) for place in places if place for about in _stats(Path(place))]


def _stats(place: Path) -> Iterator[tuple[str, int, int]]:
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    for file in files:
        if file.is_file():
            about = file.stat()
            yield str(file), about.st_size, about.st_mtime_ns
