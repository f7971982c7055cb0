"""Features on disk: a folder of immutable HDF5 shards per encoder key, or one merged file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import MissingFeatures, StoreError, listing, suggestion
from ._commit import spare_name, writing
from ._reader import Features as Features
from ._reader import Row as Row
from ._reader import Shard
from ._reader import Table as Table
from ._reader import iter_features as iter_features
from ._spool import Spool as Spool
from ._spool import Spooled as Spooled
from ._writer import FileLayout, KeyContent, Rows
from ._writer import pieces as pieces


class FeatureStore:
    """A folder of sealed shards, or one merged file.

    Parameters
    ----------
    path : Path
        The folder; or a file that `merge` wrote.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._opened: dict[Path, Shard] = {}
        self._places: dict[str, dict[str, tuple[Shard, int]]] = {}

    def __repr__(self) -> str:
        return f"<FeatureStore {self.path}: {len(self.keys())} keys>"

    def keys(self) -> list[str]:
        """Return the keys that the store holds, sorted."""
        if self.path.is_file():
            return sorted(self._shard(self.path).index)
        if not self.path.is_dir():
            return []
        return sorted(p.name for p in self.path.iterdir() if any(p.glob("*.h5")))

    def match(self, name: str) -> str:
        """Return the key of that name, or the only one that begins with it.

        Raises
        ------
        MissingFeatures
            None does, or several do.
        """
        keys = self.keys()
        found = [name] if name in keys else [key for key in keys if key.startswith(name)]
        if len(found) > 1:
            raise MissingFeatures(f"{name!r} begins several keys of {self.path}: {listing(found)}; write one out")
        if not found:
            raise MissingFeatures(f"{self.path} holds no features {name!r}; {suggestion(name, keys)}")
        return found[0]

    def shards(self, key: str) -> list[Path]:
        """Return the files that hold a key, sorted."""
        return [self.path] if self.path.is_file() else sorted((self.path / key).glob("*.h5"))

    def tables(self, key: str) -> list[Table]:
        """Return a key's tables, one a shard, every digest checked.

        Raises
        ------
        MissingFeatures
            The store does not hold the key.
        StoreError
            A shard is damaged or foreign.
        """
        return [shard.table(key) for shard in self._shards(key)]

    def specification(self, key: str) -> dict[str, Any]:
        """Return what the features of a key are."""
        return dict(self._entry(self._shards(key)[0], key)["specification"])

    def has(self, key: str, name: str) -> bool:
        """Tell whether a shard is there."""
        return (self.path / key / f"{name}.h5").exists()

    def records(self, key: str) -> Iterator[dict[str, Any]]:
        """Walk every row of a key as it stands in the shards, superseded ones too."""
        for shard in self._shards(key) if self.shards(key) else []:
            yield from self._entry(shard, key)["rows"]

    def held(self, key: str) -> set[tuple[str, str]]:
        """Return id and fingerprint of every row of a key; none where the key is not there."""
        return {(row["id"], row["fingerprint"]) for row in self.records(key)}

    def rows(self, key: str) -> dict[str, Row]:
        """Return every clip's row by id, failures included."""
        return {clip: Row(**self._entry(shard, key)["rows"][row]) for clip, (shard, row) in self._where(key).items()}

    def lacking(self, key: str, clips: Sequence[str]) -> list[str]:
        """Return those of some clips that features from elsewhere lack: nobody can make them.

        Raises
        ------
        MissingFeatures
            Clips have yet to be extracted.
        """
        places = self._where(key)
        absent = [clip for clip in clips if clip not in places]
        if absent and not self._imported(key):
            raise MissingFeatures(
                f"{self.path} holds no features of {len(absent)} of {len(clips)} clips "
                f"({listing(absent)}) for {key}; {self._remedy(key)}"
            )
        return absent

    def check_any(self, key: str, clips: Sequence[str]) -> None:
        """Refuse features that hold none of some clips: their ids are others.

        Raises
        ------
        MissingFeatures
        """
        places = self._where(key)
        if not any(clip in places for clip in clips):
            raise MissingFeatures(
                f"{self.path} holds none of the {len(clips)} clips for {key}: wanted ids such as "
                f"{listing(clips, most=2)}, it has {listing(sorted(places), most=2)}; "
                f"{self._remedy(key)}, under ids as in the manifest"
            )

    def read(self, key: str, clip: str) -> Features | None:
        """Return one clip's features, mapped; None where extraction failed for it.

        Raises
        ------
        MissingFeatures
            The clip was never extracted.
        StoreError
            The clip's shard is damaged.
        """
        place = self._where(key).get(clip)
        if place is None:
            raise MissingFeatures(f"{self.path} holds no features of clip {clip!r} for {key}; {self._remedy(key)}")
        table, row = place[0].table(key), place[1]
        if table.rows[row].code != "ok":
            return None
        part = slice(int(table.offsets[row]), int(table.offsets[row + 1]))
        return Features(table.values[part], table.times[part])

    def _remedy(self, key: str) -> str:
        if self._imported(key):
            return "import them again with that clip among them: `affuse cache import`"
        return "run `affuse extract` on the manifest that lists it"

    def _imported(self, key: str) -> bool:
        return "imported" in self.specification(key).get("identity", {})

    def _shard(self, path: Path) -> Shard:
        if path not in self._opened:
            self._opened[path] = Shard(path)
        return self._opened[path]

    def _shards(self, key: str) -> list[Shard]:
        paths = self.shards(key)
        if not paths or self.path.is_file() and key not in self._shard(self.path).index:
            raise MissingFeatures(f"{self.path} holds no features {key!r}; {suggestion(key, self.keys())}")
        return [self._shard(path) for path in paths]

    def _entry(self, shard: Shard, key: str) -> dict[str, Any]:
        entry = shard.index.get(key)
        if not isinstance(entry, dict) or not {"specification", "rows", "arrays"} <= set(entry):
            raise StoreError(f"{shard.path} holds no features {key!r}; it was moved or is foreign")
        return entry

    def _where(self, key: str) -> dict[str, tuple[Shard, int]]:
        """Return every clip's place: the lowest shard that holds it, a good row before a bad."""
        if key not in self._places:
            places: dict[str, tuple[Shard, int]] = {}
            chosen: dict[str, Any] = {}
            for shard in self._shards(key):
                for r, row in enumerate(self._entry(shard, key)["rows"]):
                    held = chosen.get(row["id"])
                    if held is None or (held["code"] != "ok" and row["code"] == "ok"):
                        places[row["id"]], chosen[row["id"]] = (shard, r), row
                    elif held["fingerprint"] != row["fingerprint"] and row["code"] == "ok":
                        raise StoreError(
                            f"{self.path / key} holds features of two different media for clip "
                            f"{row['id']!r}; `affuse cache gc {self.path} --manifest CLIPS.csv` "
                            "keeps those of the media as they are"
                        )
            self._places[key] = places
        return self._places[key]

    def write(self, key: str, name: str, specification: Mapping[str, Any], rows: Rows) -> str:
        """Commit one shard: complete or not at all, never over another.

        Parameters
        ----------
        key, name : str
            The shard becomes ``key/name.h5``.
        specification : mapping
        rows : sequence of (Row, Features or iterable of Features or None)
            The features as a whole or in pieces, `Row.n_frames` vectors together; None where the
            row's code is not ``ok``.

        Returns
        -------
        str
            ``written``, or ``already`` where the file was there.

        Raises
        ------
        StoreError
            The features do not fit the specification or their rows, or are not finite.
        EnvironmentFailure
            Disk full, no permission, no atomic commit on this file system.
        """
        folder = self.path / key
        place = folder / f"{name}.h5"
        if place.exists():
            return "already"
        layout = FileLayout({key: KeyContent(specification, rows)})
        with writing(folder, layout.size):
            self._places.pop(key, None)
            return layout.write(place)

    def spool(self) -> Spool:
        """Return a place for features that wait for their shard."""
        return Spool(self.path)

    def note(self, key: str, name: str, text: str) -> None:
        """Write a text beside a key's shards, in place of what stood there.

        Raises
        ------
        EnvironmentFailure
            Disk full, no permission.
        """
        place = self.path / key / name
        spare = spare_name(place)
        with writing(place.parent, len(text)):
            try:
                spare.write_text(text, encoding="utf-8")
                spare.replace(place)
            finally:
                spare.unlink(missing_ok=True)
