"""The plan of an extraction: what is left to do, in chunks that any engine may run.

The clips of a manifest, sorted by id, are divided into chunks of a fixed number; a large file is a
chunk of its own. The clips of a chunk that a key does not hold yet become one shard of that key.
The same manifest therefore gives the same shards, whoever extracts them, in whatever order, and
after any number of interruptions. This module does not import torch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..cache.store import MISSING, FeatureStore, fingerprint
from ..manifest import Clip, Manifest
from ..media.faces import FaceOptions
from ..media.inputs import Frames, Sound
from ._request import Request, Specification

CHUNK_SIZE = 16
LARGE = 32 << 20
"""Bytes from which the media of a clip is a chunk of its own."""


@dataclass(frozen=True)
class PlannedEncoder:
    """An encoder of an extraction, described so that any process can load it.

    Attributes
    ----------
    request : Request
        Family, checkpoint and options.
    faces : FaceOptions or None
        Options of face crops, located; None if the encoder does not use them.
    inputs : Sound or Frames
        Media that the encoder takes.
    precision : str
        Precision of the forward pass.
    specifications : tuple of Specification
        Features that are stored.
    """

    request: Request
    faces: FaceOptions | None
    inputs: Sound | Frames
    precision: str
    specifications: tuple[Specification, ...]


@dataclass(frozen=True)
class PendingShard:
    """A shard that has to be written.

    Attributes
    ----------
    specification : Specification
        Specification of its features.
    name : str
        File name without suffix.
    clips : tuple of int
        Positions of its clips in the chunk.
    source : str or None
        Key of the same encoder that holds these layers already; None if clips must be decoded.
    """

    specification: Specification
    name: str
    clips: tuple[int, ...]
    source: str | None


@dataclass(frozen=True)
class Chunk:
    """The unit of extraction: clips that are decoded together, and the shards they become.

    Attributes
    ----------
    clips : tuple of Clip
        Clips of the manifest.
    fingerprints : tuple of str
        Fingerprint of the media of each clip, see `affuse.cache.store.fingerprint`.
    shards : tuple of PendingShard
        Shards that have to be written.
    """

    clips: tuple[Clip, ...]
    fingerprints: tuple[str, ...]
    shards: tuple[PendingShard, ...]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Id and fingerprint of every clip."""
        return [(c.id, name) for c, name in zip(self.clips, self.fingerprints, strict=True)]

    @property
    def decoded(self) -> list[int]:
        """Positions of the clips that must be decoded."""
        return sorted({i for s in self.shards if s.source is None for i in s.clips})

    def is_there(self, clip: int) -> bool:
        """Tell whether the media of a clip existed when the plan was made."""
        return self.fingerprints[clip] != MISSING

    def is_written(self, store: FeatureStore) -> bool:
        """Tell whether a store holds all shards, for instance because another process wrote them."""
        return all(store.has_shard(shard.specification.key, shard.name) for shard in self.shards)


def divide(manifest: Manifest) -> list[Chunk]:
    """Divide a manifest into chunks without shards."""
    open_, closed = list[tuple[Clip, str]](), list[list[tuple[Clip, str]]]()
    for clip in sorted(manifest, key=lambda clip: clip.id):
        size, name = fingerprint(clip)
        if size >= LARGE:
            closed.append([(clip, name)])
            continue
        open_.append((clip, name))
        if len(open_) == CHUNK_SIZE:
            closed.append(open_)
            open_ = []
    return [
        Chunk(tuple(clip for clip, _ in chunk), tuple(name for _, name in chunk), ())
        for chunk in [*closed, open_]
        if chunk
    ]


def pending(
    chunks: Sequence[Chunk],
    specifications: Sequence[Specification],
    store: FeatureStore,
    *,
    part: tuple[int, int] = (1, 1),
) -> list[Chunk]:
    """Return those of all chunks of a manifest for which a store lacks features, with the shards to write.

    A clip counts as done if its media is unchanged, also if it failed. `part` is ``(i, n)`` for the i-th of n parts of
    the work.
    """
    requested = {spec.key: spec for spec in specifications}
    sources = {key: _source(spec, store) for key, spec in requested.items()}
    held = {key: store.extracted_clips(key) for key in {*requested, *filter(None, sources.values())}}
    found = []
    for index, chunk in enumerate(chunks):
        if index % part[1] != part[0] - 1:
            continue
        rows = chunk.rows
        shards = []
        for key, source in sorted(sources.items()):
            left = tuple(i for i, row in enumerate(rows) if row not in held[key])
            if left:
                derivable = source is not None and all(rows[i] in held[source] for i in left)
                name = f"{index:05d}-{_digest(key, [rows[i] for i in left])}"
                shards.append(PendingShard(requested[key], name, left, source if derivable else None))
        if shards:
            found.append(replace(chunk, shards=tuple(shards)))
    return found


def _digest(key: str, clips: Sequence[tuple[str, str]]) -> str:
    text = "\0".join([key, *(word for clip in clips for word in clip)])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _source(spec: Specification, store: FeatureStore) -> str | None:
    """Return a key of the same encoder that holds the requested layers, kept apart."""
    for key in store.keys():
        if key == spec.key:
            continue
        try:
            held = Specification.from_dict(store.specification(key))
        except KeyError:
            continue  # features imported from another tool
        same = (held.identity, held.pool, held.dtype) == (spec.identity, spec.pool, spec.dtype)
        if same and held.how == spec.how == "apart" and set(spec.layers) <= set(held.layers):
            return key
    return None
