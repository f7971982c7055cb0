"""Each corpus is read from a miniature of its distribution, or refused with a reason."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from affuse.annotations import Track
from affuse.corpora._corpus import CorpusReading, open_corpus, read_corpus
from affuse.errors import ManifestError, UnknownName
from affuse.manifest import Clip, Manifest

from . import layouts
from .layouts import NAMES


def read(name: str, root: Path, **options: object) -> CorpusReading:
    getattr(layouts, name)(root)
    return open_corpus(name, options=options).read(root)


def by_id(reading: CorpusReading) -> dict[str, Clip]:
    return reading.manifest.by_id


@pytest.mark.parametrize("name", NAMES)
def test_another_layout_is_refused_with_what_was_expected(name: str, tmp_path: Path) -> None:
    corpus = open_corpus(name)
    with pytest.raises(ManifestError, match="(?i)expected"):
        corpus.read(tmp_path / "nowhere")
    (tmp_path / "other.mp4").write_bytes(b"x")
    with pytest.raises(ManifestError, match="(?i)expected"):
        corpus.read(tmp_path)


@pytest.mark.parametrize("name", [*NAMES, "demo"])
def test_every_corpus_states_its_terms(name: str) -> None:
    corpus = open_corpus(name)
    assert corpus.info.licence and corpus.info.citation and corpus.info.source
    assert corpus.published_counts()["clips" if name != "mer2023" else "train clips"] > 0
    with pytest.raises(UnknownName, match="protocol"):
        open_corpus(name, protocol="no such")


def test_ravdess_combines_the_files_of_a_take(tmp_path: Path) -> None:
    reading = read("ravdess", tmp_path)
    clips = by_id(reading)
    assert sorted(clips) == [
        "02-01-08-02-02-02-02",
        "03-01-01-01-01-01-01",
        "03-01-05-01-01-01-06",
        "03-01-05-01-02-01-06",
        "03-01-05-02-01-01-05",
    ]
    whole = clips["03-01-01-01-01-01-01"]
    assert whole.video and whole.video.name.startswith("01-") and whole.audio
    assert (whole.speaker, whole.emotion, whole.fold) == ("actor01", "neutral", "4")
    notes = "\n".join(reading.notes)
    assert "1 takes have video but no audio: 02-01-08-02-02-02-02" in notes
    assert "1 audio files are stereo" in notes and "copies of other takes" in notes
    assert "notes" in notes


def test_ravdess_protocols_divide_by_actor(tmp_path: Path) -> None:
    clips = by_id(read("ravdess", tmp_path, protocol="avtca"))
    splits = {c.speaker: c.split for c in clips.values()}
    assert splits == {"actor01": "test", "actor02": "test", "actor05": "validation", "actor06": "validation"}
    song = open_corpus("ravdess", options={"channel": "song"}).read(tmp_path)
    assert song.manifest.ids == ["01-02-03-01-01-01-02"]


def test_ravdess_refuses_to_choose_between_different_files_of_one_name(tmp_path: Path) -> None:
    layouts.ravdess(tmp_path)
    layouts.wav(tmp_path / "copy" / "03-01-01-01-01-01-01.wav", value=1)
    reading = open_corpus("ravdess").read(tmp_path)
    assert any("twice" in note for note in reading.notes)
    layouts.wav(tmp_path / "copy" / "03-01-01-01-01-01-01.wav", channels=2)
    with pytest.raises(ManifestError, match="different files"):
        open_corpus("ravdess").read(tmp_path)


def test_ravdess_has_the_published_counts(data: Path) -> None:
    corpus = open_corpus("ravdess")
    reading = corpus.read(data / "ravdess")
    assert corpus.count(reading.manifest) == corpus.published_counts()
    given = Manifest.read(data / "ravdess" / "manifest.csv")
    mine = {c.id: (c.speaker, c.emotion, c.fold) for c in reading.manifest}
    assert mine == {c.id: (c.speaker, c.emotion, c.fold) for c in given}
    assert sum(c.video is not None for c in reading.manifest) == 9  # one take came twice


def test_crema_d_labels_are_intended_or_voted(tmp_path: Path) -> None:
    reading = read("crema_d", tmp_path)
    assert [c.emotion for c in reading.manifest] == ["anger", "happy", "neutral", "sad"]
    assert all(c.audio and c.audio.suffix == ".wav" for c in reading.manifest)
    assert any("1076_MTI_SAD_XX (no face, no audio)" in n for n in reading.notes)
    voted = open_corpus("crema_d", options={"labels": "voice"}).read(tmp_path)
    assert by_id(voted)["1001_DFA_ANG_XX"].emotion == "neutral"
    multi = open_corpus("crema_d", options={"labels": "multimodal"}).read(tmp_path)
    assert by_id(multi)["1076_MTI_SAD_XX"].emotion is None  # a tie


def test_placeholders_of_git_lfs_are_refused(tmp_path: Path) -> None:
    layouts.crema_d(tmp_path)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (tmp_path / "VideoFlash" / "1001_DFA_ANG_XX.flv").write_bytes(pointer)
    with pytest.raises(ManifestError, match="git lfs pull"):
        open_corpus("crema_d").read(tmp_path)


def test_iemocap_utterances_sessions_and_classes(tmp_path: Path) -> None:
    reading = read("iemocap", tmp_path)
    clip = by_id(reading)["Ses01F_impro01_M000"]
    assert (clip.emotion, clip.speaker, clip.fold) == ("happy", "Ses01M", "1")
    assert (clip.valence, clip.arousal) == (4.0, 3.5)
    assert clip.start is None and clip.audio and clip.audio.name == "Ses01F_impro01_M000.wav"
    assert len(reading.manifest) == 4 and len(reading.manifest.folds()) == 2
    everything = open_corpus("iemocap", options={"classes": "all"}).read(tmp_path)
    assert by_id(everything)["Ses02F_impro01_F001"].emotion is None
    assert by_id(everything)["Ses02F_impro01_M000"].emotion == "excited"


def test_iemocap_with_pictures_cuts_both_files_at_the_same_place(tmp_path: Path) -> None:
    layouts.iemocap(tmp_path, videos=True)
    clip = by_id(open_corpus("iemocap").read(tmp_path))["Ses01F_impro01_M000"]
    assert (clip.start, clip.end) == (1.5, 2.25)
    assert clip.video and clip.video.suffix == ".avi"
    assert clip.audio and clip.audio.name == "Ses01F_impro01.wav"


def test_meld_official_split_and_its_faults(tmp_path: Path) -> None:
    reading = read("meld", tmp_path)
    clips = by_id(reading)
    assert sorted(clips) == ["dev/dia0_utt0", "test/dia0_utt0", "train/dia0_utt0", "train/dia125_utt3"]
    assert clips["dev/dia0_utt0"].split == "validation"
    redone = clips["test/dia0_utt0"].video
    assert redone and redone.name == "final_videos_testdia0_utt0.mp4"
    notes = "\n".join(reading.notes)
    assert "dev/dia110_utt7" in notes and "dia125_utt3 (corrupt)" in notes
    assert "1 videos without a label were left out" in notes
    reading.manifest.folds()  # raises if a speaker occurs in two splits


def test_mer2023_parts_folds_and_missing_valence(tmp_path: Path) -> None:
    reading = read("mer2023", tmp_path)
    assert len(reading.manifest.select("train")) == 11
    test = reading.manifest.select("test")
    assert [c.valence for c in test] == [-2.0, None]
    assert {c.fold for c in reading.manifest.select("train")} == set("01234")
    assert any("sample_00000011" in note for note in reading.notes)
    semi = open_corpus("mer2023", protocol="semi")
    found = semi.read(tmp_path)
    assert len(found.manifest.select("test")) == 1 and len(found.manifest.select(None)) == 2
    assert semi.count(found.manifest)["clips"] == 12


def test_mer2023_does_not_open_pickled_labels(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "label-6way.npz", "train/sample_1.mp4")
    with pytest.raises(ManifestError, match="pickled"):
        open_corpus("mer2023").read(tmp_path)


def test_cmu_mosei_segments_folds_and_emotions(tmp_path: Path) -> None:
    reading = read("cmu_mosei", tmp_path)
    clips = by_id(reading)
    assert sorted(clips) == ["c_0", "vid-b_3", "vid_a_0", "vid_a_1"]
    assert [clips[i].emotion for i in sorted(clips)] == ["surprise", None, "happy", None]
    assert (clips["vid_a_1"].start, clips["vid_a_1"].end) == (1.0, 3.5)
    assert clips["vid_a_1"].valence == -2.0 and clips["c_0"].split == "test"
    only = open_corpus("cmu_mosei", options={"emotion": "present"}).read(tmp_path)
    assert by_id(only)["c_0"].emotion is None


def test_cmu_mosei_folds_are_parsed_and_never_run(tmp_path: Path) -> None:
    layouts.cmu_mosei(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "cmu_mosei_std_folds.py").write_text(f"standard_train_fold = open({str(ran)!r}, 'w').write('x')\n")
    with pytest.raises(ManifestError, match="folds"):
        open_corpus("cmu_mosei").read(tmp_path)
    assert not ran.exists()


@pytest.mark.parametrize("attack", ["external", "soft", "virtual", "strings", "outside", "huge"])
def test_hostile_computational_sequences_are_refused(tmp_path: Path, attack: str) -> None:
    layouts.cmu_mosei(tmp_path)
    path = tmp_path / "CMU_MOSEI_Labels.csd"
    with h5py.File(path, "r+") as file:
        entry = file["All Labels/data/c[0]"]
        del entry["features"]
        if attack == "external":
            entry["features"] = h5py.ExternalLink("/etc/passwd", "/")
        elif attack == "soft":
            entry["features"] = h5py.SoftLink("/All Labels/data/vid_a[0]/features")
        elif attack == "virtual":
            layout = h5py.VirtualLayout((1, 7), "f4")
            layout[:] = h5py.VirtualSource("/elsewhere.h5", "x", (1, 7))
            entry.create_virtual_dataset("features", layout)
        elif attack == "strings":
            entry.create_dataset("features", (1, 7), h5py.string_dtype())
        elif attack == "outside":
            entry.create_dataset("features", (1, 7), "f4", external=[(str(tmp_path / "raw"), 0, 28)])
        else:
            entry.create_dataset("features", (1 << 20, 7), "f4", chunks=(1 << 14, 7))
    with pytest.raises(ManifestError, match=r"link|plain table"):
        open_corpus("cmu_mosei").read(tmp_path)


def test_recola_gold_standard_becomes_labels_over_time(tmp_path: Path) -> None:
    reading = read("recola", tmp_path)
    assert {c.id: c.split for c in reading.manifest} == {"train_1": "train", "dev_2": "validation", "test_1": "test"}
    track = reading.tracks["dev_2"]
    np.testing.assert_allclose(track.times, np.arange(5) * 0.04)
    np.testing.assert_allclose(track.values[:, 0], -track.values[:, 1])
    manifest = reading.write(tmp_path / "clips.csv")
    labels = manifest.by_id["dev_2"].labels
    assert labels is not None and manifest.by_id["test_1"].labels is None
    np.testing.assert_allclose(Track.read(labels).values, track.values)


def test_aff_wild2_frames_people_and_missing_labels(tmp_path: Path) -> None:
    reading = read("aff_wild2", tmp_path)
    assert {c.id: c.split for c in reading.manifest} == {
        "video1_left": "train",
        "10-60-1280x720": "train",
        "val7": "validation",
        "hidden": "test",
    }
    left = reading.manifest.by_id["video1_left"]
    assert left.video and left.video.name == "video1.mp4"
    track = reading.tracks["10-60-1280x720"]
    np.testing.assert_allclose(track.times, np.arange(5) / 25, atol=1e-6)
    assert np.isnan(track.values[:, 0]).tolist() == [False, True, True, False, False]
    assert np.isnan(reading.tracks["hidden"].values).all()
    notes = "\n".join(reading.notes)
    assert "lost (no video)" in notes and "6 labels for 5 frames, cut" in notes
    assert "one of two people" in notes
    folds = open_corpus("aff_wild2", protocol="six-folds")
    assert {c.fold for c in folds.read(tmp_path).manifest} >= {"5", "0"}


def test_a_corpus_is_read_in_one_call(tmp_path: Path) -> None:
    layouts.ravdess(tmp_path)
    clips = read_corpus("ravdess", str(tmp_path), protocol="avtca", options={"channel": "speech"})
    assert list(clips) == list(read("ravdess", tmp_path, protocol="avtca").manifest)
    out = tmp_path / "clips.csv"
    assert read_corpus("ravdess", tmp_path, out=out).ids == Manifest.read(out).ids


def test_labels_over_time_are_written_and_never_lost(tmp_path: Path) -> None:
    layouts.recola(tmp_path / "root")
    with pytest.raises(ManifestError, match="Pass out='clips.csv'"):
        read_corpus("recola", tmp_path / "root")
    clips = read_corpus("recola", tmp_path / "root", out=tmp_path / "clips.csv")
    labels = clips.by_id["dev_2"].labels
    assert labels is not None and len(Track.read(labels).times) == 5


def test_a_new_corpus_is_one_short_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_corpus.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    layouts.touch(tmp_path / "root", "eva_joy.wav", "ian_fear.mp4", "notes.wav")
    corpus = open_corpus("own_corpus.Mine")
    reading = corpus.read(tmp_path / "root")
    assert [(c.id, c.speaker, c.emotion) for c in reading.manifest] == [
        ("eva_joy", "eva", "joy"),
        ("ian_fear", "ian", "fear"),
    ]
    assert reading.notes == ("1 other files were left out: notes",)
    assert [row["found"] for row in corpus.compare_counts(reading.manifest)] == ["2", "2", "1", "1"]


MINE = '''
import re
from affuse.corpora._corpus import Corpus, CorpusInfo, CorpusReading, note
from affuse.corpora._files import find_media, match_names
from affuse.manifest import Clip, Manifest


class Mine(Corpus):
    """Mine: recordings of two people."""

    info = CorpusInfo(licence="none", citation="none", source="my own recordings")
    emotions = ("joy", "fear")

    def published_counts(self):
        return {"clips": 2, "speakers": 2}

    def read(self, root):
        matched, others = match_names(find_media(root), re.compile(r"([a-z]+)_(joy|fear)"))
        clips = [Clip(m[0], video=f.video, audio=f.audio, speaker=m[1], emotion=m[2]) for m, f in matched]
        return CorpusReading(Manifest(clips), note(len(others), "other files were left out", others))
'''
