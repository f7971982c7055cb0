"""The feature store: a folder of immutable HDF5 shards per key, or one merged file.

A row of a shard holds the `fingerprint` of the media that its features were extracted from.
"""

import hashlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingFeatures, StoreError, listing, suggestion
from ..manifest import Clip
from ._commit import write_text, writing
from ._reader import Features as Features
from ._reader import Row as Row
from ._reader import Shard
from ._reader import Table as Table
from ._writer import FileLayout, KeyContent, Rows
from ._writer import Spool as Spool
from ._writer import Spooled as Spooled
from ._writer import pieces as pieces

if TYPE_CHECKING:
    import pandas


class FeatureStore:
    """Features of clips, stored under one key per encoder and setting.

    A store is a folder of immutable shards, ``<key>/<shard>.h5``, or one file that `merge_store`
    wrote; both are read in the same way. Creating the object opens no file. Iterating over a store
    gives its keys, ``len(store)`` is their number and ``key in store`` tests for one.

    Parameters
    ----------
    path : str or Path
        Folder of the store, or a merged file. The folder is created by the first write.

    Examples
    --------
    >>> store = FeatureStore("features")  # doctest: +SKIP
    >>> store.keys()  # doctest: +SKIP
    ['logmel-3f2a91c04b7e']
    >>> features = store.read("logmel-3f2a91c04b7e", "clip1")  # doctest: +SKIP
    >>> features.values.shape, features.times.shape  # doctest: +SKIP
    ((143, 80), (143,))
    """

    @classmethod
    def of(cls, store: "FeatureStore | str | Path") -> "FeatureStore":
        """Return a store, which is opened where its path is given."""
        return store if isinstance(store, FeatureStore) else cls(store)

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._opened: dict[Path, Shard] = {}
        self._locations: dict[str, dict[str, tuple[Shard, int]]] = {}

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return type(self), (self.path,)  # opened files are not sent to other processes

    def __repr__(self) -> str:
        if not self.path.exists():
            return f"<FeatureStore {self.path}: does not exist yet>"
        keys = self.keys()
        return f"<FeatureStore {self.path}: {len(keys)} keys{f' ({listing(keys)})' if keys else ''}>"

    def __len__(self) -> int:
        return len(self.keys())

    def __bool__(self) -> bool:
        return True  # A store without features is a store: `if store` does not depend on its content.

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    # -- reading ----------------------------------------------------------------------------

    def keys(self) -> list[str]:
        """Return the keys that the store holds, sorted."""
        if self.path.is_file():
            return sorted(self._shard(self.path).index)
        if not self.path.is_dir():
            return []
        return sorted(p.name for p in self.path.iterdir() if any(p.glob("*.h5")))

    def find_key(self, name: str) -> str:
        """Return the key with this name, or the only key that begins with it.

        Raises
        ------
        MissingFeatures
            No key begins with the name, or several keys do.
        """
        keys = self.keys()
        found = [name] if name in keys else [key for key in keys if key.startswith(name)]
        if len(found) > 1:
            raise MissingFeatures(
                f"Several keys of {self.path} begin with {name!r}: {listing(found)}. Give one of them in full."
            )
        if not found:
            raise MissingFeatures(f"{self.path} holds no features {name!r}; {suggestion(name, keys)}")
        return found[0]

    def read(self, key: str, clip: str) -> Features | None:
        """Return the features of one clip.

        Parameters
        ----------
        key : str
            Key of the features; `keys` lists them, `find_key` completes a prefix.
        clip : str
            Id of the clip, as in the manifest.

        Returns
        -------
        Features or None
            Read-only arrays that are mapped from the file, ``values`` of shape (time, dim) or
            (time, layers, dim) and ``times`` of shape (time,) in seconds; `Features.to_torch` copies
            them to tensors. None where extraction failed for the clip; `rows` gives the reason.

        Raises
        ------
        MissingFeatures
            The store does not hold the key, or the clip has not been extracted.
        StoreError
            The shard of the clip is damaged.
        """
        location = self._locate(key).get(clip)
        if location is None:
            raise MissingFeatures(f"{self.path} holds no features of clip {clip!r} for {key}. {self._remedy(key)}.")
        shard, row = location
        return shard.table(key).features(row)

    def rows(self, key: str) -> dict[str, Row]:
        """Return the outcome of extraction for every clip of a key, by clip id, failures included."""
        return {clip: Row(**self._entry(shard, key)["rows"][row]) for clip, (shard, row) in self._locate(key).items()}

    def to_pandas(self, key: str | None = None) -> "pandas.DataFrame":
        """Return a table of what the store holds, one row per key and clip.

        Parameters
        ----------
        key : str or None
            Key to list; None lists all keys.

        Returns
        -------
        DataFrame
            Columns ``key``, ``id``, ``code`` (``ok`` or the kind of failure), ``reason``,
            ``n_frames``, ``coverage``, ``decode_errors``, ``duration`` (seconds), ``face_share`` and
            ``fingerprint``, as in `Row`; missing numbers are nan.
        """
        import pandas

        keys = self.keys() if key is None else [key]
        rows = [{"key": k} | asdict(row) for k in keys for _, row in sorted(self.rows(k).items())]
        first = ["key", "id", "code", "reason", "n_frames"]
        others = [name for name in Row.__dataclass_fields__ if name not in first]
        return pandas.DataFrame(rows, columns=[*first, *others])

    def specification(self, key: str) -> dict[str, Any]:
        """Return the description of a key's features: at least ``name``, ``modality`` and ``dim``."""
        return dict(self._entry(self._shards(key)[0], key)["specification"])

    def tables(self, key: str) -> list[Table]:
        """Return the tables of a key, one per shard, after checking every digest.

        Raises
        ------
        MissingFeatures, StoreError
            The store does not hold the key, or a shard is damaged or was not written by affuse.
        """
        return [shard.table(key) for shard in self._shards(key)]

    # -- what is there ----------------------------------------------------------------------

    def shard_paths(self, key: str) -> list[Path]:
        """Return the files that hold a key, sorted."""
        return [self.path] if self.path.is_file() else sorted((self.path / key).glob("*.h5"))

    def has_shard(self, key: str, name: str) -> bool:
        """Return whether the shard ``key/name.h5`` exists."""
        return (self.path / key / f"{name}.h5").exists()

    def all_rows(self, key: str) -> Iterator[dict[str, Any]]:
        """Yield every row of a key as it is stored, superseded rows included."""
        for shard in self._shards(key) if self.shard_paths(key) else []:
            yield from self._entry(shard, key)["rows"]

    def extracted_clips(self, key: str) -> set[tuple[str, str]]:
        """Return id and fingerprint of every row of a key; an empty set where the key is absent."""
        return {(row["id"], row["fingerprint"]) for row in self.all_rows(key)}

    def missing_clips(self, key: str, clips: Sequence[str]) -> list[str]:
        """Return those of the given clips that are absent from imported features.

        Imported features cannot be extracted, so absent clips are returned and not an error.

        Raises
        ------
        MissingFeatures
            The key belongs to an encoder of affuse and clips have not been extracted yet.
        """
        known = self._locate(key)
        absent = [clip for clip in clips if clip not in known]
        if absent and not self._is_imported(key):
            raise MissingFeatures(
                f"{self.path} holds no features of {len(absent)} of {len(clips)} clips "
                f"({listing(absent)}) for {key}. {self._remedy(key)}."
            )
        return absent

    def check_overlap(self, key: str, clips: Sequence[str]) -> None:
        """Raise `MissingFeatures` if a key holds none of the given clips, so that the ids do not match."""
        known = self._locate(key)
        if not any(clip in known for clip in clips):
            raise MissingFeatures(
                f"{self.path} holds none of the {len(clips)} clips for {key}. The manifest has ids such as "
                f"{listing(clips, most=2)}, the features have {listing(sorted(known), most=2)}. "
                f"{self._remedy(key)}, under the ids of the manifest."
            )

    def _remedy(self, key: str) -> str:
        if self._is_imported(key):
            return "Import the features again with these clips: `affuse cache import`"
        return "Run `affuse extract` on the manifest that lists these clips"

    def _is_imported(self, key: str) -> bool:
        return "imported" in self.specification(key).get("identity", {})

    def _shard(self, path: Path) -> Shard:
        if path not in self._opened:
            self._opened[path] = Shard(path)
        return self._opened[path]

    def _shards(self, key: str) -> list[Shard]:
        paths = self.shard_paths(key)
        if not paths or self.path.is_file() and key not in self._shard(self.path).index:
            raise MissingFeatures(f"{self.path} holds no features {key!r}; {suggestion(key, self.keys())}")
        return [self._shard(path) for path in paths]

    def _entry(self, shard: Shard, key: str) -> dict[str, Any]:
        entry = shard.index.get(key)
        if not isinstance(entry, dict) or not {"specification", "rows", "arrays"} <= set(entry):
            raise StoreError(
                f"{shard.path} holds no features {key!r}: it was moved here or was not written by affuse. Remove it."
            )
        return entry

    def _locate(self, key: str) -> dict[str, tuple[Shard, int]]:
        """Return shard and row of every clip: the first shard wins, a success before a failure."""
        if key not in self._locations:
            locations: dict[str, tuple[Shard, int]] = {}
            chosen: dict[str, Any] = {}
            for shard in self._shards(key):
                for r, row in enumerate(self._entry(shard, key)["rows"]):
                    held = chosen.get(row["id"])
                    if held is None or (held["code"] != "ok" and row["code"] == "ok"):
                        locations[row["id"]], chosen[row["id"]] = (shard, r), row
                    elif held["fingerprint"] != row["fingerprint"] and row["code"] == "ok":
                        raise StoreError(
                            f"{self.path / key} holds features of two different media for clip {row['id']!r}. Run "
                            f"`affuse cache gc {self.path} --manifest CLIPS.csv` to keep those of the current media."
                        )
            self._locations[key] = locations
        return self._locations[key]

    # -- writing ----------------------------------------------------------------------------

    def write(self, key: str, name: str, specification: Mapping[str, Any], rows: Rows) -> str:
        """Commit one shard: it appears complete or not at all, and replaces no existing file.

        Parameters
        ----------
        key, name : str
            Key of the features and name of the shard; the file becomes ``key/name.h5``.
        specification : mapping
            Description of the features, see `specification`.
        rows : sequence of (Row, Features or iterable of Features or None)
            Outcome and features of each clip. The features come as a whole or in pieces that have
            `Row.n_frames` vectors together; they are None where the code of the row is not ``ok``.

        Returns
        -------
        str
            ``written``, or ``already`` where the file existed.

        Raises
        ------
        StoreError
            The features do not fit the specification or their rows, or are not finite.
        EnvironmentFailure
            The disk is full, permission is missing, or the file system has no atomic commit.
        """
        folder = self.path / key
        path = folder / f"{name}.h5"
        if path.exists():
            return "already"
        layout = FileLayout({key: KeyContent(specification, rows)})
        with writing(folder, layout.size):
            self._locations.pop(key, None)
            return layout.write(path)

    def spool(self) -> Spool:
        """Return a buffer for features that are written as a shard later."""
        return Spool(self.path)

    def write_text(self, key: str, name: str, text: str) -> None:
        """Write a text file beside the shards of a key, replacing an earlier one.

        A full disk or missing permission raises `EnvironmentFailure`.
        """
        path = self.path / key / name
        with writing(path.parent, len(text)):
            write_text(path, text)


MISSING = "missing"
"""Fingerprint of a clip whose media file does not exist or cannot be read."""
SAMPLE_SIZE = 4096


def fingerprint(clip: Clip) -> tuple[int, str]:
    """Return the size of a clip's media and a digest that changes with the media or the segment.

    Only the file sizes and the first, middle and last 4 KB of each file are read. This is enough to
    detect an edited file and fast for ten thousand clips. Without media, the digest is `MISSING`.
    """
    digest = hashlib.blake2b(f"{clip.start}:{clip.end}".encode(), digest_size=10)
    size = 0
    for path in (clip.video, clip.audio):
        if path is None:
            continue
        try:
            size += _add_samples(digest, path)
        except OSError:
            return 0, MISSING
    return size, digest.hexdigest()


def _add_samples(digest: "hashlib.blake2b", path: Path) -> int:
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("a pipe or a device, which may never end")
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        digest.update(b"%d" % size)
        for position in sorted({0, max(0, size // 2 - SAMPLE_SIZE // 2), max(0, size - SAMPLE_SIZE)}):
            file.seek(position)
            digest.update(file.read(SAMPLE_SIZE))
    return size
