"""Clips, and the manifest: the table that lists them.

A manifest is a CSV file that a person can write, with one row per clip, an ``id`` column and as many
of the other columns as are known. Text is kept exactly (``001`` stays ``001``; ``None`` and ``NA``
are labels); only an empty field is missing.
"""

import csv
import dataclasses
import difflib
import io
import math
import re
import typing
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import LeakError, ManifestError, listing, suggestion

if typing.TYPE_CHECKING:
    import pandas

MOST_FAULTS = 20
"""Number of faults that one error message lists."""
SPLITS = ("train", "validation", "test")
SPLIT_SYNONYMS = dict.fromkeys(("dev", "devel", "development", "val", "valid"), "validation")
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")
VIDEO_SUFFIXES = {".mp4", ".mkv", ".avi", ".mov", ".webm", ".flv", ".mpg", ".mpeg", ".m4v", ".wmv", ".ts"}
AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac"}


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of one person, or a segment of one.

    Attributes
    ----------
    id : str
        Identifier, unique in its manifest.
    video, audio : Path or None
        Media files. Where only a video is given, its sound track is the audio.
    start, end : float or None
        Segment of the file in seconds; None for the beginning and the end of the file.
    speaker : str or None
        Identifier of the person.
    split : str or None
        ``train``, ``validation`` or ``test``.
    fold : str or None
        Fold of cross-validation that holds the clip out.
    emotion : str or None
        Emotion label.
    valence, arousal : float or None
        Dimensional labels of the whole clip, in the range of the corpus.
    labels : Path or None
        File with labels over time, see `Track`.
    source : str or None
        Origin of the label if it does not come from the corpus, for example of a pseudo-label.
    """

    id: str
    video: Path | None = None
    audio: Path | None = None
    start: float | None = None
    end: float | None = None
    speaker: str | None = None
    split: str | None = None
    fold: str | None = None
    emotion: str | None = None
    valence: float | None = None
    arousal: float | None = None
    labels: Path | None = None
    source: str | None = None


COLUMNS = tuple(field.name for field in dataclasses.fields(Clip))
PATHS = ("video", "audio", "labels")
NUMBERS = ("start", "end", "valence", "arousal")


class Fold(typing.NamedTuple):
    """One fold of cross-validation.

    Attributes
    ----------
    name : str
        Name of the fold.
    train, held_out : Manifest
        Clips that a model is trained on, and clips that it is evaluated on.
    """

    name: str
    train: "Manifest"
    held_out: "Manifest"


class Manifest(Sequence[Clip]):
    """The clips of one corpus, in order.

    Parameters
    ----------
    clips : iterable of Clip
        Clips with distinct ids.
    name : str
        Name for messages, such as the name of the file that lists the clips.

    Raises
    ------
    ManifestError
        Two clips have the same id.
    """

    def __init__(self, clips: Iterable[Clip], *, name: str = "manifest") -> None:
        self.clips, self.name = tuple(clips), name
        self.by_id = {clip.id: clip for clip in self.clips}
        if len(self.by_id) < len(self.clips):
            repeated = [i for i, n in Counter(c.id for c in self.clips).items() if n > 1]
            raise ManifestError(f"{name} repeats ids: {listing(repeated)}. Every clip needs an id of its own.")

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    @typing.overload
    def __getitem__(self, index: int) -> Clip: ...
    @typing.overload
    def __getitem__(self, index: slice) -> "Manifest": ...
    def __getitem__(self, index: int | slice) -> "Clip | Manifest":
        if isinstance(index, slice):
            return Manifest(self.clips[index], name=self.name)
        return self.clips[index]

    def __repr__(self) -> str:
        return f"<Manifest {self.name}: {len(self)} clips, {len(self.speakers)} speakers>"

    @property
    def ids(self) -> list[str]:
        """Ids of the clips, in order."""
        return [clip.id for clip in self.clips]

    @property
    def emotions(self) -> list[str]:
        """Emotions that occur, sorted."""
        return sorted({clip.emotion for clip in self if clip.emotion is not None})

    @property
    def speakers(self) -> list[str]:
        """Speakers that occur, sorted."""
        return sorted({clip.speaker for clip in self if clip.speaker is not None})

    def subset(self, ids: Iterable[str]) -> "Manifest":
        """Return the clips with the given ids, in the order of this manifest."""
        chosen = set(ids)
        return Manifest((c for c in self if c.id in chosen), name=self.name)

    def select(self, split: str | None) -> "Manifest":
        """Return the clips of one split; None selects the clips without a split."""
        return Manifest((c for c in self if c.split == split), name=self.name)

    # -- folds ------------------------------------------------------------------------------

    def folds(self, n: int = 5, *, seed: int = 0) -> list[Fold]:
        """Return the folds of cross-validation over all clips outside the test split.

        The ``fold`` column decides where it is filled. Otherwise, a split ``validation`` is the only
        fold. Otherwise, the clips are divided into `n` folds, stratified by emotion, and the clips of
        a speaker stay together (StratifiedGroupKFold of scikit-learn; GroupKFold where no emotion has
        `n` clips). A clip without a speaker counts as a speaker of its own.

        Parameters
        ----------
        n : int
            Number of folds, where neither folds nor a validation split are given.
        seed : int
            Seed of the random division.

        Raises
        ------
        LeakError
            A speaker occurs in two folds, or both inside and outside the test split.
        ManifestError
            Fewer than 2 folds, or fewer speakers than folds.
        """
        self._check_test_speakers()
        clips = [c for c in self if c.split != "test"]
        if any(c.fold is not None for c in clips):
            assigned = {c.id: c.fold for c in clips}
        elif any(c.split == "validation" for c in clips):
            assigned = {c.id: "validation" if c.split == "validation" else None for c in clips}
        else:
            assigned = self._divide(clips, n, seed)
        self._check_fold_speakers(clips, assigned)
        folds = []
        for name in sorted({f for f in assigned.values() if f is not None}):
            held_out = Manifest((c for c in clips if assigned[c.id] == name), name=self.name)
            train = Manifest((c for c in clips if assigned[c.id] != name), name=self.name)
            if not train:
                raise ManifestError(f"{self.name}: fold {name!r} holds every clip. Give the clips at least two folds.")
            folds.append(Fold(name, train, held_out))
        return folds

    def with_folds(self, n: int, *, seed: int = 0) -> "Manifest":
        """Return the manifest with the folds of `folds` written in its ``fold`` column."""
        name = {clip.id: fold.name for fold in self.folds(n, seed=seed) for clip in fold.held_out}
        return Manifest((dataclasses.replace(c, fold=name.get(c.id)) for c in self), name=self.name)

    def _divide(self, clips: list[Clip], n: int, seed: int) -> dict[str, str | None]:
        from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

        if n < 2:
            raise ManifestError(f"{self.name}: found {n} as the number of folds; expected at least 2.")
        groups = [c.speaker if c.speaker is not None else f"clip {c.id}" for c in clips]
        if len(set(groups)) < n:
            raise ManifestError(
                f"{self.name}: {n} folds need at least {n} speakers, found {len(set(groups))}. "
                "Fill in the column 'speaker', or choose fewer folds."
            )
        labels = [c.emotion or "" for c in clips]
        stratified = max(Counter(labels).values()) >= n
        splitter = (StratifiedGroupKFold if stratified else GroupKFold)(n, shuffle=True, random_state=seed)
        assigned: dict[str, str | None] = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
                assigned.update({clips[i].id: str(fold) for i in held_out})
        return assigned

    def _check_test_speakers(self) -> None:
        tested = {c.speaker for c in self if c.split == "test"} - {None}
        both = tested & {c.speaker for c in self if c.split != "test"}
        if both:
            raise LeakError(
                f"{self.name}: speakers occur both inside and outside the split 'test': "
                f"{listing(sorted(map(str, both)))}. Put all clips of a speaker in one split."
            )

    def _check_fold_speakers(self, clips: list[Clip], assigned: dict[str, str | None]) -> None:
        folds: defaultdict[str, set[str | None]] = defaultdict(set)
        for clip in clips:
            if clip.speaker is not None:
                folds[clip.speaker].add(assigned[clip.id])
        divided = sorted(speaker for speaker, found in folds.items() if len(found) > 1)
        if divided:
            raise LeakError(
                f"{self.name}: speakers occur in more than one fold: {listing(divided)}. A model would be "
                "evaluated on people it was trained on; put all clips of a speaker in one fold."
            )

    # -- tables -----------------------------------------------------------------------------

    @classmethod
    def of(cls, manifest: "Manifest | str | Path") -> "Manifest":
        """Return a manifest, which is read where its path is given."""
        return manifest if isinstance(manifest, Manifest) else cls.read(manifest)

    @classmethod
    def read(cls, path: str | Path) -> "Manifest":
        """Read a manifest from a CSV file (``,``, ``;`` or tab) or a Parquet file.

        Parameters
        ----------
        path : str or Path
            File to read. Relative paths in it are relative to its folder.

        Raises
        ------
        ManifestError
            The file cannot be read. The message gives line and column of up to 20 faults.
        """
        path = Path(path)
        if not path.is_file():
            raise ManifestError(f"{path} is not a file. `affuse manifest FOLDER --out {path}` writes a manifest.")
        if path.suffix == ".parquet":
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(path)
            header = list(table.column_names)
            rows = [[("" if v is None else str(v)) for v in row.values()] for row in table.to_pylist()]
        else:
            header, *rows = _read_csv(path)
        return cls(_Parser(str(path), path.parent, header, rows).clips(), name=path.name)

    def write(self, path: str | Path) -> None:
        """Write a CSV or Parquet file, chosen by the suffix.

        Columns that no clip fills are left out. Paths below the folder of the file become relative.
        """
        path = Path(path)
        used = [c for c in COLUMNS if c == "id" or any(getattr(k, c) is not None for k in self)]
        rows = [[_text(getattr(clip, c), path.parent) for c in used] for clip in self]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            columns = {c: [r[i] or None for r in rows] for i, c in enumerate(used)}
            pyarrow.parquet.write_table(pyarrow.table(columns), path)
            return
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([used, *rows])

    @classmethod
    def from_pandas(cls, frame: "pandas.DataFrame", *, name: str = "DataFrame", folder: str | Path = ".") -> "Manifest":
        """Return the clips of a table that has the columns of a manifest.

        Parameters
        ----------
        frame : DataFrame
            One row per clip, with a column or index ``id``. Missing values (None, nan) are missing
            fields; numbers in text columns become text.
        name : str
            Name for messages.
        folder : str or Path
            Folder that relative paths start from.

        Raises
        ------
        ManifestError
            The table is not a manifest. The message gives row and column of up to 20 faults.
        """
        import pandas

        if "id" not in frame and frame.index.name == "id":
            frame = frame.reset_index()
        header = [str(column) for column in frame.columns]
        rows = [
            ["" if column not in COLUMNS or pandas.isna(v) else str(v) for column, v in zip(header, row, strict=True)]
            for row in frame.convert_dtypes().itertuples(index=False, name=None)
        ]
        return cls(_Parser(name, Path(folder), header, rows, unit="row", first=0).clips(), name=name)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a table with one row per clip and the attributes of `Clip` as columns; paths are text."""
        import pandas

        rows = [{c: str(v) if isinstance(v, Path) else v for c in COLUMNS for v in [getattr(clip, c)]} for clip in self]
        return pandas.DataFrame(rows, columns=list(COLUMNS))


def suggested_column(column: str) -> str | None:
    """Return the column that an unknown name most likely misspells, or None for a column of the user."""
    if column in COLUMNS:
        return None
    near = difflib.get_close_matches(column.strip().lower(), COLUMNS, n=1, cutoff=0.85)
    return near[0] if near else None


def _text(value: object, folder: Path) -> str:
    if value is None:
        return ""
    if isinstance(value, Path):
        absolute, base = value.absolute(), folder.absolute()
        return str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _read_csv(path: Path) -> list[list[str]]:
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ManifestError(f"{path} is UTF-16; expected UTF-8. Save it as 'CSV UTF-8'.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ManifestError(f"{path}, line {line}: not UTF-8. Save the file as 'CSV UTF-8'.") from None
    if "\0" in text:
        raise ManifestError(f"{path} contains NUL bytes, so it is not a text file. Expected a CSV file.")
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ManifestError(f"{path} is not a CSV file: {error}.") from None
    if not rows:
        raise ManifestError(f"{path} is empty. Expected a header with 'id' and one row per clip.")
    return rows


@dataclass
class _Parser:
    """Strict conversion of a table of text to clips, which reports all faults at once.

    `unit` and `first` number the rows in messages: ``line 2`` of a file, ``row 0`` of a DataFrame.
    """

    source: str
    folder: Path
    header: list[str]
    rows: list[list[str]]
    unit: str = "line"
    first: int = 2

    def clips(self) -> list[Clip]:
        self._check_header()
        faults: list[str] = []
        clips: list[Clip] = []
        seen: dict[str, str] = {}
        for number, row in enumerate(self.rows, start=self.first):
            if not any(row):
                continue
            place = f"{self.unit} {number}"
            if len(row) != len(self.header):
                faults.append(f"{place}: {len(row)} fields, the header has {len(self.header)}")
                continue
            fields: dict[str, typing.Any] = {}
            for column, cell in zip(self.header, row, strict=True):
                if column in COLUMNS and cell != "":
                    try:
                        fields[column] = _value(column, cell, self.folder)
                    except ValueError as error:
                        faults.append(f"{place}, column {column!r}: {error}")
            if not fields.get("id"):
                faults.append(f"{place}, column 'id': empty")
            elif fields["id"] in seen:
                faults.append(f"{place}: id {fields['id']!r} again, first in {seen[fields['id']]}")
            elif fields.get("end", math.inf) <= fields.get("start", 0.0):
                faults.append(f"{place}, column 'end': {fields['end']:g} s is not after the start")
            else:
                seen[fields["id"]] = place
                clips.append(Clip(**fields))
        self._raise(faults)
        if not clips:
            raise ManifestError(f"{self.source} lists no clip. Expected one row per clip below the header.")
        return clips

    def _check_header(self) -> None:
        place = f"{self.unit} {self.first - 1}" if self.first else "columns"
        faults = [
            f"{place}: unknown column {column!r}; did you mean {near!r}?"
            for column in self.header
            if (near := suggested_column(column))
        ]
        if "id" not in self.header:
            faults.append(f"{place}: no column 'id'; {suggestion('id', self.header)}")
        repeated = [c for c, n in Counter(self.header).items() if n > 1]
        if repeated:
            faults.append(f"{place}: columns that occur more than once: {listing(repeated)}")
        self._raise([*faults, *self._decimal_commas()])

    def _decimal_commas(self) -> Iterator[str]:
        """Yield one fault per column of numbers that a spreadsheet wrote with decimal commas."""
        for column in sorted(set(NUMBERS).intersection(self.header)):
            index = self.header.index(column)
            found = [
                (number, row[index])
                for number, row in enumerate(self.rows, start=self.first)
                if len(row) > index and DECIMAL_COMMA.fullmatch(row[index])
            ]
            if found:
                number, cell = found[0]
                yield (
                    f"{self.unit} {number}, column {column!r}: {cell!r} has a decimal comma, as {len(found)} rows "
                    f"have; write {cell.replace(',', '.').strip()}"
                )

    def _raise(self, faults: list[str]) -> None:
        if len(faults) > MOST_FAULTS:
            faults = [*faults[:MOST_FAULTS], f"and {len(faults) - MOST_FAULTS} more such faults"]
        if faults:
            raise ManifestError("\n".join(f"{self.source}, {fault}" for fault in faults))


def _value(column: str, cell: str, folder: Path) -> object:
    if column in NUMBERS:
        number = float(cell)
        if not math.isfinite(number):
            raise ValueError(f"{cell!r} is not a finite number; leave the field empty where it is not annotated")
        return number
    if column in PATHS:
        if "://" in cell or any(ord(character) < 32 for character in cell):
            raise ValueError(f"{cell!r} is not a path of a file on this machine")
        return folder / cell
    if any(ord(character) < 32 for character in cell):
        raise ValueError(f"{cell!r} contains a control character")
    if column == "split" and cell not in SPLITS:
        word = cell.strip().lower()
        near = suggestion(SPLIT_SYNONYMS.get(word, word), SPLITS)
        raise ValueError(f"found {cell!r}, expected {', '.join(SPLITS)} or an empty field; {near}")
    return cell
