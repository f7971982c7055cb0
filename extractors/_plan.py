"""What is left to extract, in units that any engine may map; free of torch.

The clips of a manifest, sorted by id, fall into buckets of a fixed number; a large file has a
bucket of its own. A bucket's clips that a key does not hold yet become one shard of that key. So
the same manifest gives the same shards whoever extracts them, in which order, after how many kills.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..cache.fingerprint import MISSING as MISSING
from ..cache.fingerprint import fingerprint
from ..cache.store import FeatureStore
from ..manifest import Clip, Manifest
from ._features import Specification

BUCKET = 16
LARGE = 32 << 20


@dataclass(frozen=True)
class PendingShard:
    """What a bucket owes one key.

    Attributes
    ----------
    specification : Specification
    name : str
    clips : tuple of int
        Places in the bucket.
    source : str or None
        A key of the same encoder that holds these layers already.
    """

    specification: Specification
    name: str
    clips: tuple[int, ...]
    source: str | None


@dataclass(frozen=True)
class Chunk:
    """Clips that are decoded together, and the shards they become.

    Attributes
    ----------
    clips : tuple of Clip
    fingerprints : tuple of str
    shards : tuple of PendingShard
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
        """Places of the clips that some shard needs decoded."""
        return sorted({i for s in self.shards if s.source is None for i in s.clips})


def plan(
    manifest: Manifest, specifications: Sequence[Specification], store: FeatureStore, *, part: tuple[int, int] = (1, 1)
) -> list[Chunk]:
    """Return the buckets of a manifest that owe something; see `owing`."""
    return owing(dealt(manifest), specifications, store, part=part)


def dealt(manifest: Manifest) -> list[Chunk]:
    """Deal a manifest into buckets, which owe nothing yet."""
    open_, closed = list[tuple[Clip, str]](), list[list[tuple[Clip, str]]]()
    for clip in sorted(manifest, key=lambda clip: clip.id):
        size, name = fingerprint(clip)
        if size >= LARGE:
            closed.append([(clip, name)])
            continue
        open_.append((clip, name))
        if len(open_) == BUCKET:
            closed.append(open_)
            open_ = []
    return [
        Chunk(tuple(clip for clip, _ in bucket), tuple(name for _, name in bucket), ())
        for bucket in [*closed, open_]
        if bucket
    ]


def owing(
    buckets: Sequence[Chunk],
    specifications: Sequence[Specification],
    store: FeatureStore,
    *,
    part: tuple[int, int] = (1, 1),
) -> list[Chunk]:
    """Return the buckets with the shards that a store does not hold yet.

    Parameters
    ----------
    buckets : sequence of Chunk
    specifications : sequence of Specification
    store : FeatureStore
        Rows count, those of failed clips too, where the media is what it was.
    part : (int, int)
        The i-th of n slices.
    """
    wanted = {spec.key: spec for spec in specifications}
    sources = {key: _source(spec, store) for key, spec in wanted.items()}
    held = {key: store.extracted_clips(key) for key in {*wanted, *filter(None, sources.values())}}
    found = []
    for index, bucket in enumerate(buckets):
        if index % part[1] != part[0] - 1:
            continue
        rows = bucket.rows
        shards = []
        for key, source in sorted(sources.items()):
            left = tuple(i for i, row in enumerate(rows) if row not in held[key])
            if left:
                there = source is not None and all(rows[i] in held[source] for i in left)
                name = f"{index:05d}-{_digest(key, [rows[i] for i in left])}"
                shards.append(PendingShard(wanted[key], name, left, source if there else None))
        if shards:
            found.append(replace(bucket, shards=tuple(shards)))
    return found


def _digest(key: str, clips: Sequence[tuple[str, str]]) -> str:
    text = "\0".join([key, *(word for clip in clips for word in clip)])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _source(spec: Specification, store: FeatureStore) -> str | None:
    """Return a key that holds the same numbers and more: the encoder's layers, kept apart."""
    for key in store.keys():
        if key == spec.key:
            continue
        try:
            held = Specification.of(store.specification(key))
        except KeyError:
            continue  # features from elsewhere
        same = (held.identity, held.pool, held.dtype) == (spec.identity, spec.pool, spec.dtype)
        if same and held.how == spec.how == "apart" and set(spec.layers) <= set(held.layers):
            return key
    return None
