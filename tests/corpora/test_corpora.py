"""Each corpus from a miniature of its layout: what is read, what is said, what is refused."""

import importlib.util
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from affuse import plugins
from affuse.annotations import Track
from affuse.cli import main
from affuse.corpora._corpus import Corpus, CorpusReading
from affuse.errors import ManifestError, UnknownName
from affuse.manifest import Clip, Manifest

NAMES = ["ravdess", "crema_d", "iemocap", "meld", "mer2023", "cmu_mosei", "recola", "aff_wild2"]


def _layouts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("layouts.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


layouts = _layouts()


def read(name: str, root: Path, **settings: object) -> CorpusReading:
    getattr(layouts, name)(root)
    return plugins.build("corpus", name, settings=settings).read(root)


def by_id(reading: CorpusReading) -> dict[str, Clip]:
    return reading.manifest.by_id


@pytest.mark.parametrize("name", NAMES)
def test_the_verb_prints_counts_licence_and_citation(name: str, tmp_path: Path) -> None:
    getattr(layouts, name)(tmp_path / "root")
    out = tmp_path / "clips.csv"
    result = CliRunner().invoke(main, ["manifest", str(tmp_path / "root"), "--corpus", name, "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "published" in result.output and "licence: " in result.output
    assert "citation: " in result.output
    assert len(Manifest.read(out)) > 0
    for clip in Manifest.read(out):
        assert all(p is None or p.is_file() for p in (clip.video, clip.audio, clip.labels))


@pytest.mark.parametrize("name", NAMES)
def test_another_layout_is_refused_in_words(name: str, tmp_path: Path) -> None:
    corpus: Corpus = plugins.build("corpus", name, settings={})
    with pytest.raises(ManifestError, match="(?i)wanted"):
        corpus.read(tmp_path / "nowhere")
    (tmp_path / "other.mp4").write_bytes(b"x")
    with pytest.raises(ManifestError, match="(?i)wanted"):
        corpus.read(tmp_path)


@pytest.mark.parametrize("name", [*NAMES, "demo"])
def test_every_corpus_says_where_it_is_had(name: str) -> None:
    corpus = plugins.build("corpus", name, settings={})
    assert corpus.facts.licence and corpus.facts.citation and corpus.facts.source
    assert corpus.published()["clips" if name != "mer2023" else "train clips"] > 0
    with pytest.raises(UnknownName, match="protocol"):
        plugins.build("corpus", name, settings={"protocol": "no such"})


def test_ravdess_joins_the_files_of_a_take(tmp_path: Path) -> None:
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
    assert "1 takes have a picture but no sound: 02-01-08-02-02-02-02" in notes
    assert "1 sound files are stereo" in notes and "copies of another" in notes
    assert "notes" in notes


def test_ravdess_protocols_divide_by_actor(tmp_path: Path) -> None:
    clips = by_id(read("ravdess", tmp_path, protocol="avtca"))
    splits = {c.speaker: c.split for c in clips.values()}
    assert splits == {"actor01": "test", "actor02": "test", "actor05": "validation", "actor06": "validation"}
    song = plugins.build("corpus", "ravdess", settings={"channel": "song"}).read(tmp_path)
    assert song.manifest.ids == ["01-02-03-01-01-01-02"]


def test_ravdess_refuses_to_choose_between_different_files_of_one_name(tmp_path: Path) -> None:
    layouts.ravdess(tmp_path)
    layouts.wav(tmp_path / "copy" / "03-01-01-01-01-01-01.wav", value=1)
    reading = plugins.build("corpus", "ravdess", settings={}).read(tmp_path)
    assert any("twice" in note for note in reading.notes)
    layouts.wav(tmp_path / "copy" / "03-01-01-01-01-01-01.wav", channels=2)
    with pytest.raises(ManifestError, match="different files"):
        plugins.build("corpus", "ravdess", settings={}).read(tmp_path)


def test_ravdess_as_given_counts_as_published(data: Path) -> None:
    corpus = plugins.build("corpus", "ravdess", settings={})
    reading = corpus.read(data / "ravdess")
    assert corpus.counted(reading.manifest) == corpus.published()
    given = Manifest.read(data / "ravdess" / "manifest.csv")
    mine = {c.id: (c.speaker, c.emotion, c.fold) for c in reading.manifest}
    assert mine == {c.id: (c.speaker, c.emotion, c.fold) for c in given}
    assert sum(c.video is not None for c in reading.manifest) == 9  # one take came twice


def test_crema_d_labels_are_intended_or_voted(tmp_path: Path) -> None:
    reading = read("crema_d", tmp_path)
    assert [c.emotion for c in reading.manifest] == ["anger", "happy", "neutral", "sad"]
    assert all(c.audio and c.audio.suffix == ".wav" for c in reading.manifest)
    assert any("1076_MTI_SAD_XX (no face, no sound)" in n for n in reading.notes)
    voted = plugins.build("corpus", "crema_d", settings={"labels": "voice"}).read(tmp_path)
    assert by_id(voted)["1001_DFA_ANG_XX"].emotion == "neutral"
    multi = plugins.build("corpus", "crema_d", settings={"labels": "multimodal"}).read(tmp_path)
    assert by_id(multi)["1076_MTI_SAD_XX"].emotion is None  # a tie


def test_placeholders_of_git_lfs_are_refused(tmp_path: Path) -> None:
    layouts.crema_d(tmp_path)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (tmp_path / "VideoFlash" / "1001_DFA_ANG_XX.flv").write_bytes(pointer)
    with pytest.raises(ManifestError, match="git lfs pull"):
        plugins.build("corpus", "crema_d", settings={}).read(tmp_path)


def test_iemocap_utterances_sessions_and_classes(tmp_path: Path) -> None:
    reading = read("iemocap", tmp_path)
    clip = by_id(reading)["Ses01F_impro01_M000"]
    assert (clip.emotion, clip.speaker, clip.fold) == ("happy", "Ses01M", "1")
    assert (clip.valence, clip.arousal) == (4.0, 3.5)
    assert clip.start is None and clip.audio and clip.audio.name == "Ses01F_impro01_M000.wav"
    assert len(reading.manifest) == 4 and len(reading.manifest.folds()) == 2
    everything = plugins.build("corpus", "iemocap", settings={"classes": "all"}).read(tmp_path)
    assert by_id(everything)["Ses02F_impro01_F001"].emotion is None
    assert by_id(everything)["Ses02F_impro01_M000"].emotion == "excited"


def test_iemocap_with_pictures_cuts_both_files_at_the_same_place(tmp_path: Path) -> None:
    layouts.iemocap(tmp_path, videos=True)
    clip = by_id(plugins.build("corpus", "iemocap", settings={}).read(tmp_path))["Ses01F_impro01_M000"]
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
    assert "1 videos without a label" in notes
    reading.manifest.folds()  # no speaker stands on both sides


def test_mer2023_parts_folds_and_missing_valence(tmp_path: Path) -> None:
    reading = read("mer2023", tmp_path)
    assert len(reading.manifest.select("train")) == 11
    test = reading.manifest.select("test")
    assert [c.valence for c in test] == [-2.0, None]
    assert {c.fold for c in reading.manifest.select("train")} == set("01234")
    assert any("sample_00000011" in note for note in reading.notes)
    semi = plugins.build("corpus", "mer2023", settings={"protocol": "semi"})
    found = semi.read(tmp_path)
    assert len(found.manifest.select("test")) == 1 and len(found.manifest.select(None)) == 2
    assert semi.counted(found.manifest)["clips"] == 12


def test_mer2023_does_not_open_pickled_labels(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "label-6way.npz", "train/sample_1.mp4")
    with pytest.raises(ManifestError, match="pickled"):
        plugins.build("corpus", "mer2023", settings={}).read(tmp_path)


def test_cmu_mosei_segments_folds_and_emotions(tmp_path: Path) -> None:
    reading = read("cmu_mosei", tmp_path)
    clips = by_id(reading)
    assert sorted(clips) == ["c_0", "vid-b_3", "vid_a_0", "vid_a_1"]
    assert [clips[i].emotion for i in sorted(clips)] == ["surprise", None, "happy", None]
    assert (clips["vid_a_1"].start, clips["vid_a_1"].end) == (1.0, 3.5)
    assert clips["vid_a_1"].valence == -2.0 and clips["c_0"].split == "test"
    only = plugins.build("corpus", "cmu_mosei", settings={"emotion": "present"}).read(tmp_path)
    assert by_id(only)["c_0"].emotion is None


def test_cmu_mosei_folds_are_parsed_never_run(tmp_path: Path) -> None:
    layouts.cmu_mosei(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "cmu_mosei_std_folds.py").write_text(f"standard_train_fold = open({str(ran)!r}, 'w').write('x')\n")
    with pytest.raises(ManifestError, match="folds"):
        plugins.build("corpus", "cmu_mosei", settings={}).read(tmp_path)
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
        plugins.build("corpus", "cmu_mosei", settings={}).read(tmp_path)


def test_recola_gold_standard_becomes_tracks(tmp_path: Path) -> None:
    reading = read("recola", tmp_path)
    assert {c.id: c.split for c in reading.manifest} == {"train_1": "train", "dev_2": "validation", "test_1": "test"}
    track = reading.tracks["dev_2"]
    np.testing.assert_allclose(track.times, np.arange(5) * 0.04)
    np.testing.assert_allclose(track.values[:, 0], -track.values[:, 1])
    manifest = reading.write(tmp_path / "clips.csv")
    labels = manifest.by_id["dev_2"].labels
    assert labels is not None and manifest.by_id["test_1"].labels is None
    np.testing.assert_allclose(Track.read(labels).values, track.values)


def test_aff_wild2_frames_people_and_absent_labels(tmp_path: Path) -> None:
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
    folds = plugins.build("corpus", "aff_wild2", settings={"protocol": "six-folds"})
    assert {c.fold for c in folds.read(tmp_path).manifest} >= {"5", "0"}


def test_the_list_says_where_each_is_had_and_on_which_terms() -> None:
    result = CliRunner().invoke(main, ["list", "corpora"])
    assert result.exit_code == 0
    for name in [*NAMES, "demo", "demo_long"]:
        facts = plugins.find("corpus", name).facts
        (line,) = (row for row in result.output.splitlines() if row.split(" ")[0] == name)
        assert facts.licence in line and facts.source in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--corpus", "ravdes"], "did you mean 'ravdess'"),
        (["--corpus", "ravdess", "--set", "chanel=song"], "did you mean 'channel'"),
        (["--corpus", "ravdess", "--set", "channel=songs"], "did you mean 'song'"),
        (["--corpus", "ravdess", "--protocol", "fold"], "did you mean 'folds'"),
        (["--corpus", "ravdess", "--set", "channel"], "name=value"),
        (["--protocol", "folds"], "belong to --corpus"),
        (["--corpus", "ravdess", "--pattern", "x"], "does not go with --corpus"),
    ],
)
def test_slips_at_the_command_line_are_answered(tmp_path: Path, words: list[str], told: str) -> None:
    layouts.ravdess(tmp_path)
    out = str(tmp_path / "clips.csv")
    result = CliRunner().invoke(main, ["manifest", str(tmp_path), "-o", out, *words])
    assert result.exit_code in (1, 2) and told in result.output
