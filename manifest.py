"""Clips and the table that lists them.

A manifest is a CSV that a person can write: one row a clip, an ``id`` column, and of the others
those that are known. Text is kept exactly (``001`` stays ``001``, ``None`` and ``NA`` are labels);
only an empty field is missing.
"""

import csv
import dataclasses
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

MISSPELT = 0.85
SHOWN_FAULTS = 20
SPLITS = ("train", "validation", "test")
SHORT = dict.fromkeys(("dev", "devel", "development", "val", "valid"), "validation")
"""What others call a split."""
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")


VIDEO_SUFFIXES = {".mp4", ".mkv", ".avi", ".mov", ".webm", ".flv", ".mpg", ".mpeg", ".m4v", ".wmv", ".ts"}
AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac"}


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of one person, or a stretch of one.

    Attributes
    ----------
    id : str
        Unique in its manifest.
    video, audio : Path or None
        Media files. With a video alone, its own sound track is the audio.
    start, end : float or None
        Seconds in the file; None: from its beginning, to its end.
    speaker, split, fold, emotion : str or None
        Who speaks; ``train``, ``validation`` or ``test``; which fold holds the clip out; the label.
    valence, arousal : float or None
        Dimensions of the whole clip, in the corpus's own range.
    labels : Path or None
        File of per-frame labels.
    source : str or None
        Where the label comes from, if not from the corpus: the provenance of a pseudo-label.
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
    """One round of cross-validation: what is learnt from, and what is held out."""

    name: str
    train: "Manifest"
    held_out: "Manifest"


class Manifest(Sequence[Clip]):
    """The clips of one corpus, in order.

    Parameters
    ----------
    clips : iterable of Clip
        Ids must differ.
    name : str
        For messages: the file the clips came from.

    Raises
    ------
    ManifestError
        Two clips share an id.
    """

    def __init__(self, clips: Iterable[Clip], *, name: str = "manifest") -> None:
        self.clips, self.name = tuple(clips), name
        self.by_id = {clip.id: clip for clip in self.clips}
        if len(self.by_id) < len(self.clips):
            twice = [i for i, n in Counter(c.id for c in self.clips).items() if n > 1]
            raise ManifestError(f"{name}: ids that occur more than once: {listing(twice)}")

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
        """Ids in order."""
        return [clip.id for clip in self.clips]

    @property
    def emotions(self) -> list[str]:
        """Emotions that occur, sorted."""
        return sorted({clip.emotion for clip in self if clip.emotion is not None})

    @property
    def speakers(self) -> list[str]:
        """Speakers that occur, sorted."""
        return sorted({clip.speaker for clip in self if clip.speaker is not None})

    def where(self, ids: Iterable[str]) -> "Manifest":
        """Return the clips of those ids, in this manifest's order."""
        wanted = set(ids)
        return Manifest((c for c in self if c.id in wanted), name=self.name)

    def select(self, split: str | None) -> "Manifest":
        """Return the clips of one split."""
        return Manifest((c for c in self if c.split == split), name=self.name)

    # -- folds ------------------------------------------------------------------------------

    def folds(self, n: int = 5, *, seed: int = 0) -> list[Fold]:
        """Return the rounds of cross-validation over all clips that are not under test.

        The ``fold`` column decides where there is one; else the split ``validation`` is the one
        fold; else clips are dealt into `n` folds, stratified by emotion, speakers kept together
        (scikit-learn's StratifiedGroupKFold; unstratified where no emotion has `n` clips). A clip
        without a speaker is its own.

        Raises
        ------
        LeakError
            A speaker stands on both sides of a fold or of a split.
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
            assigned = self._dealt(clips, n, seed)
        self._check_fold_speakers(clips, assigned)
        rounds = []
        for fold in sorted({f for f in assigned.values() if f is not None}):
            held = Manifest((c for c in clips if assigned[c.id] == fold), name=self.name)
            train = Manifest((c for c in clips if assigned[c.id] != fold), name=self.name)
            if not train:
                raise ManifestError(f"{self.name}: fold {fold!r} holds every clip; wanted two")
            rounds.append(Fold(fold, train, held))
        return rounds

    def dealt(self, n: int, *, seed: int = 0) -> "Manifest":
        """Return the manifest with its clips dealt into `n` folds, as `folds` does."""
        rounds = self.folds(n, seed=seed)
        fold = {clip.id: each.name for each in rounds for clip in each.held_out}
        clips = (dataclasses.replace(c, fold=fold.get(c.id)) for c in self)
        return Manifest(clips, name=self.name)

    def _dealt(self, clips: list[Clip], n: int, seed: int) -> dict[str, str | None]:
        from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

        if n < 2:
            raise ManifestError(f"{self.name}: asked for {n} folds; wanted at least 2")
        groups = [c.speaker if c.speaker is not None else f"clip {c.id}" for c in clips]
        if len(set(groups)) < n:
            raise ManifestError(
                f"{self.name}: {n} folds need at least {n} speakers, found {len(set(groups))}; "
                "fill the column 'speaker' or ask for fewer folds"
            )
        labels = [c.emotion or "" for c in clips]
        stratified = max(Counter(labels).values()) >= n
        dealer = (StratifiedGroupKFold if stratified else GroupKFold)(n, shuffle=True, random_state=seed)
        assigned: dict[str, str | None] = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            for fold, (_, held) in enumerate(dealer.split(labels, labels, groups)):
                assigned.update({clips[i].id: str(fold) for i in held})
        return assigned

    def _check_test_speakers(self) -> None:
        tested = {c.speaker for c in self if c.split == "test"} - {None}
        both = tested & {c.speaker for c in self if c.split != "test"}
        if both:
            raise LeakError(
                f"{self.name}: speakers both in the split 'test' and outside it: "
                f"{listing(sorted(map(str, both)))}. Give each speaker one split."
            )

    def _check_fold_speakers(self, clips: list[Clip], assigned: dict[str, str | None]) -> None:
        sides: defaultdict[str, set[str | None]] = defaultdict(set)
        for clip in clips:
            if clip.speaker is not None:
                sides[clip.speaker].add(assigned[clip.id])
        torn = sorted(speaker for speaker, found in sides.items() if len(found) > 1)
        if torn:
            raise LeakError(
                f"{self.name}: speakers in more than one fold: {listing(torn)}; a model would be "
                "scored on people it has heard. Give each speaker one fold."
            )

    # -- files ------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | Path) -> "Manifest":
        """Read a CSV (``,``, ``;`` or tab) or Parquet file; paths in it are relative to it.

        Raises
        ------
        ManifestError
            With the file, line and column of every fault, up to `SHOWN_FAULTS` of them.
        """
        path = Path(path)
        if not path.is_file():
            raise ManifestError(f"{path} is not a file; `affuse manifest FOLDER -o {path}` writes one")
        if path.suffix == ".parquet":
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(path)
            header = list(table.column_names)
            rows = [[("" if v is None else str(v)) for v in row.values()] for row in table.to_pylist()]
        else:
            header, *rows = _cells(path)
        return cls(_clips(path, header, rows), name=path.name)

    def write(self, path: str | Path) -> None:
        """Write CSV or Parquet, by the ending; paths below the file's folder become relative."""
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
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([used, *rows])


def _text(value: object, folder: Path) -> str:
    if value is None:
        return ""
    if isinstance(value, Path):
        absolute, base = value.absolute(), folder.absolute()
        return str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _cells(path: Path) -> list[list[str]]:
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ManifestError(f"{path} is UTF-16; wanted UTF-8. Save it as 'CSV UTF-8'.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ManifestError(f"{path}, line {line}: not UTF-8; save it as 'CSV UTF-8'") from None
    if "\0" in text:
        raise ManifestError(f"{path} holds NUL bytes; it is not a text file")
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ManifestError(f"{path}: not a CSV: {error}") from None
    if not rows:
        raise ManifestError(f"{path} is empty; wanted a header with 'id', and one row a clip")
    return rows


def _clips(path: Path, header: list[str], rows: list[list[str]]) -> list[Clip]:
    faults = []
    for column in header:
        if near := suggestion_for(column):
            faults.append(f"line 1: unknown column {column!r}; did you mean {near!r}?")
    if "id" not in header:
        faults.append(f"line 1: no column 'id'; {suggestion('id', header)}")
    if len(set(header)) < len(header):
        twice = listing(c for c, n in Counter(header).items() if n > 1)
        faults.append(f"line 1: columns that occur more than once: {twice}")
    faults += _decimal_commas(header, rows)
    _raise(path, faults)
    clips = []
    seen: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        if not any(row):
            continue
        if len(row) != len(header):
            faults.append(f"line {line}: {len(row)} fields, the header has {len(header)}")
            continue
        fields: dict[str, typing.Any] = {}
        for column, cell in zip(header, row, strict=True):
            if column in COLUMNS and cell != "":
                try:
                    fields[column] = _value(column, cell, path.parent)
                except ValueError as error:
                    faults.append(f"line {line}, column {column!r}: {error}")
        if not fields.get("id"):
            faults.append(f"line {line}, column 'id': empty")
        elif fields["id"] in seen:
            faults.append(f"line {line}: id {fields['id']!r} again, first in line {seen[fields['id']]}")
        elif fields.get("end", math.inf) <= fields.get("start", 0.0):
            faults.append(f"line {line}, column 'end': {fields['end']:g} s is not after the start")
        else:
            seen[fields["id"]] = line
            clips.append(Clip(**fields))
    _raise(path, faults)
    if not clips:
        raise ManifestError(f"{path} lists no clip; wanted one row a clip below the header")
    return clips


def _raise(path: Path, faults: list[str]) -> None:
    """Say what is wrong, if anything is: a column of text would else fill the screen."""
    if len(faults) > SHOWN_FAULTS:
        faults = [*faults[:SHOWN_FAULTS], f"and {len(faults) - SHOWN_FAULTS} more such faults"]
    if faults:
        raise ManifestError("\n".join(f"{path}, {fault}" for fault in faults))


def _decimal_commas(header: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Say once a column what a spreadsheet did to all its rows."""
    for place, column in enumerate(header):
        if column not in NUMBERS:
            continue
        found = [
            (line, row[place])
            for line, row in enumerate(rows, start=2)
            if len(row) > place and DECIMAL_COMMA.fullmatch(row[place])
        ]
        if found:
            line, cell = found[0]
            point = cell.replace(",", ".").strip()
            yield (
                f"line {line}, column {column!r}: {cell!r} has a decimal comma (so have "
                f"{len(found)} rows); write {point}"
            )


def suggestion_for(column: str) -> str | None:
    """Return the column that an unknown one is most likely a slip of; None for one's own."""
    import difflib

    if column in COLUMNS:
        return None
    near = difflib.get_close_matches(column.strip().lower(), COLUMNS, n=1, cutoff=MISSPELT)
    return near[0] if near else None


def _value(column: str, cell: str, folder: Path) -> object:
    if column in NUMBERS:
        number = float(cell)
        if not math.isfinite(number):
            raise ValueError(f"{cell!r} is not a finite number; leave it empty where not annotated")
        return number
    if column in PATHS:
        if "://" in cell or any(ord(character) < 32 for character in cell):
            raise ValueError(f"{cell!r} is not a path of a file on this machine")
        return folder / cell
    if any(ord(character) < 32 for character in cell):
        raise ValueError(f"{cell!r} holds a control character")
    if column == "split" and cell not in SPLITS:
        word = cell.strip().lower()
        near = suggestion(SHORT.get(word, word), SPLITS)
        raise ValueError(f"found {cell!r}, wanted {', '.join(SPLITS)} or nothing; {near}")
    return cell
