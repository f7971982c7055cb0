"""Manifests keep text exactly as written, or report line and column of every fault."""

import random
from pathlib import Path

import pandas
import pytest

from affuse.corpora._folder import scan
from affuse.errors import LeakError, ManifestError
from affuse.manifest import Clip, Manifest


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "clips.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text_is_kept_exactly(tmp_path: Path, delimiter: str, mark: str, end: str) -> None:
    rows = [
        ["id", "emotion", "speaker", "valence"],
        ["001", "None", "NA", "-0.5"],
        ["1e3", "null", " x ", ""],
        ["ä,;b", "nan", "007", "1"],
    ]
    cells = [[f'"{cell}"' for cell in row] for row in rows]
    text = mark + end.join(delimiter.join(row) for row in cells) + end
    clips = Manifest.read(written(tmp_path, text))
    assert clips.ids == ["001", "1e3", "ä,;b"]
    assert [c.emotion for c in clips] == ["None", "null", "nan"]
    assert [c.speaker for c in clips] == ["NA", " x ", "007"]
    assert [c.valence for c in clips] == [-0.5, None, 1.0]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_written_manifest_is_read_unchanged(tmp_path: Path, ending: str) -> None:
    clips = Manifest(
        [
            Clip("001", video=tmp_path / "a" / "001.mp4", start=0.25, emotion="None"),
            Clip("=1+1", audio=Path("/elsewhere/x.wav"), valence=-1 / 3, speaker="p,1", fold="0"),
        ]
    )
    clips.write(tmp_path / f"m.{ending}")
    again = Manifest.read(tmp_path / f"m.{ending}")
    assert again[0] == clips[0]
    assert again[1].valence == pytest.approx(-1 / 3, abs=1e-9)
    assert (again[1].id, again[1].audio, again[1].speaker) == ("=1+1", clips[1].audio, "p,1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("id\n", "lists no clip"),
        ("name,emotion\na,happy\n", "no column 'id'"),
        ("id,emotoin\na,happy\n", "did you mean 'emotion'"),
        ("id,id\na,b\n", "more than once"),
        ("id,valence\na,high\n", "line 2, column 'valence'"),
        ("id,valence\na,nan\n", "not a finite number"),
        ("id,emotion\na,happy\na,sad\n", "line 3: id 'a' again, first in line 2"),
        ("id,emotion\na\n", "line 2: 1 fields, the header has 2"),
        ("id,video\na,http://x/y.mp4\n", "not a path"),
        ('id,video\na,"x\ny.mp4"\n', "not a path"),
        ("id,emotion\n,happy\n", "line 2, column 'id': empty"),
        ("id;valence\na;0,25\nb;-0,5\n", "line 2, column 'valence'.*2 rows have; write 0.25"),
        ("id,split\na,train\nb,dev\n", "line 3, column 'split'.*did you mean 'validation'"),
        ("id,split\na,tset\n", "expected train, validation, test or an empty field; did you mean 'test'"),
        ("id,start,end\na,1,0.5\n", "line 2, column 'end': 0.5 s is not after the start"),
    ],
)
def test_faults_name_line_and_column(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        Manifest.read(written(tmp_path, text))


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as error:
        Manifest.read(written(tmp_path, "id,valence,start\na,x,y\nb,1,z\n"))
    assert str(error.value).count("clips.csv, line") == 3
    column = "".join(f"c{i},good\n" for i in range(1000))
    with pytest.raises(ManifestError) as error:
        Manifest.read(written(tmp_path, "id,valence\n" + column))
    lines = str(error.value).splitlines()
    assert len(lines) < 30 and lines[-1].endswith("and 980 more such faults")


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="UTF-16"):
        Manifest.read(written(tmp_path, "id\na\n", "utf-16"))
    with pytest.raises(ManifestError, match="line 2: not UTF-8"):
        Manifest.read(written(tmp_path, "id\nä\n", "latin-1"))


def crowd(n_speakers: int = 10, n_each: int = 6) -> Manifest:
    emotions = ["happy", "sad", "angry"]
    return Manifest(
        Clip(f"{s}-{i}", speaker=f"s{s}", emotion=emotions[i % 3]) for s in range(n_speakers) for i in range(n_each)
    )


def test_folds_hold_out_every_clip_once_and_keep_speakers_together() -> None:
    folds = crowd().folds(5, seed=3)
    held = [clip.id for fold in folds for clip in fold.held_out]
    assert sorted(held) == sorted(crowd().ids)
    for fold in folds:
        assert not set(fold.train.speakers) & set(fold.held_out.speakers)
        assert len(fold.train) + len(fold.held_out) == len(crowd())


def test_folds_depend_on_their_seed_only() -> None:
    first = [f.held_out.ids for f in crowd().folds(4, seed=1)]
    random.seed(99)
    assert first == [f.held_out.ids for f in crowd().folds(4, seed=1)]
    assert first != [f.held_out.ids for f in crowd().folds(4, seed=2)]


def test_a_given_fold_column_is_used(tmp_path: Path) -> None:
    divided = crowd().with_folds(5, seed=0)
    divided.write(tmp_path / "m.csv")
    again = Manifest.read(tmp_path / "m.csv")
    assert [f.held_out.ids for f in again.folds(2)] == [f.held_out.ids for f in divided.folds(2)]


def test_speakers_in_two_folds_or_splits_are_refused_by_name() -> None:
    clips = [Clip("a", speaker="eva", fold="0"), Clip("b", speaker="eva", fold="1")]
    with pytest.raises(LeakError, match="eva"):
        Manifest(clips).folds()
    with pytest.raises(LeakError, match="eva"):
        Manifest([Clip("a", speaker="eva", split="test"), Clip("b", speaker="eva")]).folds()


def test_fewer_speakers_than_folds_are_refused() -> None:
    with pytest.raises(ManifestError, match="at least 5 speakers, found 2"):
        crowd(2).folds(5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("per_emotion", [1, 2, 6])
def test_rare_emotions_are_divided_without_warnings_of_scikit_learn(per_emotion: int) -> None:
    clips = [Clip(f"{e}{i}", emotion=e) for e in "abcdef" for i in range(per_emotion)]
    folds = Manifest([*clips, Clip("rare", emotion="g")]).folds(5)
    assert sum(len(fold.held_out) for fold in folds) == len(clips) + 1


def test_a_single_fold_is_refused() -> None:
    with pytest.raises(ManifestError, match="found 1 as the number of folds; expected at least 2"):
        crowd().folds(1)


def test_a_folder_becomes_a_manifest(tmp_path: Path) -> None:
    for name in ["s1/happy.mp4", "s1/happy.wav", "s2/sad.MKV", "s2/notes.txt", "s2/.x.mp4"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    clips = scan(tmp_path, pattern=r"(?P<speaker>s\d)/(?P<emotion>\w+)")
    assert clips.ids == ["s1/happy", "s2/sad"]
    assert clips[0].video == tmp_path / "s1/happy.mp4"
    assert clips[0].audio == tmp_path / "s1/happy.wav"
    assert [(c.speaker, c.emotion) for c in clips] == [("s1", "happy"), ("s2", "sad")]
    with pytest.raises(ManifestError, match="does not match 1 of 2 ids: s2/sad"):
        scan(tmp_path, pattern=r"(?P<speaker>s1)")
    (tmp_path / "s1/happy.mkv").touch()
    with pytest.raises(ManifestError, match="would be one clip"):
        scan(tmp_path)


def test_a_manifest_survives_a_data_frame(tmp_path: Path) -> None:
    clips = crowd().with_folds(3)
    assert list(Manifest.from_pandas(clips.to_pandas())) == list(clips)
    frame = clips.to_pandas()
    assert frame["speaker"].nunique() == 10 and frame["valence"].isna().all()
    media = Manifest([Clip("001", video=tmp_path / "a.mp4", start=0.1, emotion="None")])
    assert list(Manifest.from_pandas(media.to_pandas())) == list(media)


def test_a_data_frame_is_read_as_strictly_as_a_file() -> None:
    frame = pandas.DataFrame({"id": [1, 2], "speaker": [7, None], "valence": [0.5, None], "video": ["x.mp4", None]})
    clips = Manifest.from_pandas(frame.set_index("id"), folder="/data")
    assert [(c.id, c.speaker, c.valence) for c in clips] == [("1", "7", 0.5), ("2", None, None)]
    assert clips[0].video == Path("/data/x.mp4")
    for table, words in [
        (pandas.DataFrame({"name": ["a"]}), "columns: no column 'id'"),
        (pandas.DataFrame({"id": ["a"], "emotoin": ["happy"]}), "did you mean 'emotion'"),
        (pandas.DataFrame({"id": ["a", "a"]}), "row 1: id 'a' again, first in row 0"),
        (pandas.DataFrame({"id": ["a"], "split": ["dev"]}), "row 0, column 'split'"),
        (pandas.DataFrame({"id": []}), "lists no clip"),
    ]:
        with pytest.raises(ManifestError, match=words):
            Manifest.from_pandas(table)


def test_a_subset_keeps_the_order_of_the_manifest() -> None:
    assert crowd().subset(["1-0", "0-3", "absent"]).ids == ["0-3", "1-0"]
