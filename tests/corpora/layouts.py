"""Miniatures of each corpus, laid out as it is distributed."""

import csv
import wave
from pathlib import Path

import h5py
import numpy as np

from affuse.corpora._demo_video import write_media

NAMES = ("ravdess", "crema_d", "iemocap", "meld", "mer2023", "cmu_mosei", "recola", "aff_wild2")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def sheet(path: Path, *rows: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def wav(path: Path, channels: int = 1, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "w") as file:
        file.setparams((channels, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.full(1600 * channels, value, np.int16).tobytes())


def video(path: Path, n_frames: int, fps: int = 25) -> None:
    frames = (np.full((32, 32, 3), i % 255, np.uint8) for i in range(n_frames))
    write_media(path, frames, np.zeros(16_000 * n_frames // fps, np.float32), fps=fps)


def ravdess(root: Path) -> None:
    touch(
        root,
        "Actor_01/01-01-01-01-01-01-01.mp4",
        "Actor_01/02-01-01-01-01-01-01.mp4",
        "Actor_02/02-01-08-02-02-02-02.mp4",
        "Actor_02/01-02-03-01-01-01-02.mp4",
        "Actor_05/01-01-05-02-01-01-05.mp4",
        "notes.wav",
    )
    wav(root / "Actor_01" / "03-01-01-01-01-01-01.wav", value=1)
    wav(root / "Actor_05" / "03-01-05-02-01-01-05.wav", channels=2)
    wav(root / "Actor_06" / "03-01-05-01-01-01-06.wav", value=7)
    wav(root / "Actor_06" / "03-01-05-01-02-01-06.wav", value=7)


def crema_d(root: Path) -> None:
    names = ["1001_DFA_ANG_XX", "1001_IEO_HAP_HI", "1076_MTI_SAD_XX", "1002_WSI_NEU_XX"]
    touch(
        root,
        *(f"VideoFlash/{n}.flv" for n in names),
        *(f"AudioWAV/{n}.wav" for n in names),
        *(f"AudioMP3/{n}.mp3" for n in names),
    )
    sheet(
        root / "processedResults" / "summaryTable.csv",
        ["", "FileName", "VoiceVote", "VoiceLevel", "FaceVote", "FaceLevel", "MultiModalVote"],
        [1, "1001_DFA_ANG_XX", "N", 50, "A", 60, "A"],
        [2, "1001_IEO_HAP_HI", "H", 50, "H", 60, "H"],
        [3, "1076_MTI_SAD_XX", "S", 50, "S", 60, "D:S"],
    )


def iemocap(root: Path, *, videos: bool = False) -> None:
    line = "[{} - {}]\t{}\t{}\t[{}, {}, 2.5000]\n"
    for session in (1, 2):
        dialog = f"Ses0{session}F_impro01"
        base = root / "IEMOCAP_full_release" / f"Session{session}"
        rows = [("F000", "neu", 2.5, 2.5), ("M000", "exc", 4.0, 3.5), ("F001", "xxx", 3.0, 3.0)]
        text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        for i, (turn, emotion, valence, arousal) in enumerate(rows):
            text += line.format(
                f"{i}.5000", f"{i + 1}.2500", f"{dialog}_{turn}", emotion, f"{valence:.4f}", f"{arousal:.4f}"
            )
            text += "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
            touch(base, f"sentences/wav/{dialog}/{dialog}_{turn}.wav")
        (base / "dialog" / "EmoEvaluation").mkdir(parents=True)
        (base / "dialog" / "EmoEvaluation" / f"{dialog}.txt").write_text(text)
        touch(base, f"dialog/wav/{dialog}.wav")
        if videos:
            touch(base, f"dialog/avi/DivX/{dialog}.avi")


def meld(root: Path) -> None:
    header = [
        "Sr No.",
        "Utterance",
        "Speaker",
        "Emotion",
        "Sentiment",
        "Dialogue_ID",
        "Utterance_ID",
        "Season",
        "Episode",
        "StartTime",
        "EndTime",
    ]
    rest = ["1", "2", "0:00:01", "0:00:02"]
    sheet(
        root / "train_sent_emo.csv",
        header,
        [1, "Oh\x92", "Joey", "joy", "p", 0, 0, *rest],
        [2, "No", "Ross", "anger", "n", 125, 3, *rest],
    )
    sheet(
        root / "dev_sent_emo.csv",
        header,
        [1, "a", "Joey", "fear", "n", 0, 0, *rest],
        [2, "b", "Joey", "neutral", "n", 110, 7, *rest],
    )
    sheet(root / "test_sent_emo.csv", header, [1, "a", "Joey", "sadness", "n", 0, 0, *rest])
    touch(
        root,
        "train_splits/dia0_utt0.mp4",
        "train_splits/dia125_utt3.mp4",
        "dev_splits_complete/dia0_utt0.mp4",
        "dev_splits_complete/dia66_utt9.mp4",
        "output_repeated_splits_test/dia0_utt0.mp4",
        "output_repeated_splits_test/final_videos_testdia0_utt0.mp4",
    )


def mer2023(root: Path) -> None:
    emotions = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
    rows = [[f"sample_{i:08d}", emotions[i % 6], -1.25 + i / 4] for i in range(12)]
    sheet(root / "train-label.csv", ["name", "discrete", "valence"], *rows)
    touch(root, *(f"train/{r[0]}.mp4" for r in rows[:-1]))
    for part in ("test1", "test2"):
        sheet(
            root / f"{part}-label.csv",
            ["name", "discrete", "valence"],
            [f"{part}_1", "sad", -2.0],
            [f"{part}_2", "happy", -10],
        )
        touch(root, f"{part}/{part}_1.avi", f"{part}/{part}_2.avi")
    sheet(root / "test3-label.csv", ["name", "discrete"], ["samplenew_1", "sad"])
    touch(root, "test3/samplenew_1.mp4", "test3/samplenew_2.mp4", "test3/samplenew_3.mp4")


def cmu_mosei(root: Path) -> None:
    touch(root, *(f"Raw/Videos/Full/Combined/{v}.mp4" for v in ("vid_a", "vid-b", "c", "d")))
    with h5py.File(root / "CMU_MOSEI_Labels.csd", "w") as file:
        data = file.create_group("All Labels").create_group("data")
        file["All Labels"].create_group("metadata")
        entries = {
            "vid_a[0]": (1.0, 2, 0, 0, 0, 0, 0),
            "vid_a[1]": (-2.0, 0, 1, 1, 0, 0, 0),
            "vid-b[3]": (0.0, 0, 0, 0, 0, 0, 0),
            "c[0]": (3.0, 1, 0, 0, 2, 0, 0),
            "d[0]": (1.0, 0, 0, 0, 0, 0, 1),
            "gone[2]": (1.0, 0, 0, 0, 0, 0, 0),
        }
        for i, (name, labels) in enumerate(entries.items()):
            group = data.create_group(name)
            group["features"] = np.array([labels], np.float32)
            group["intervals"] = np.array([[i, i + 2.5]], np.float32)
    (root / "cmu_mosei_std_folds.py").write_text(
        "standard_train_fold=['vid_a', 'gone']\nstandard_valid_fold=['vid-b']\nstandard_test_fold=['c']\n"
    )


def recola(root: Path) -> None:
    for part, n in (("train", 1), ("dev", 2), ("test", 1)):
        touch(root, f"recordings_audio/{part}_{n}.wav", f"recordings_video/{part}_{n}.mp4")
        if part == "test":
            continue
        for dimension, sign in (("valence", 1), ("arousal", -1)):
            rows = "\n".join(f"'{part}_{n}',{i * 0.04:.2f},{sign * i / 100}" for i in range(5))
            path = root / "ratings_gold_standard" / dimension / f"{part}_{n}.arff"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                "@relation 'gold'\n\n@attribute Instance_name string\n@attribute frameTime numeric"
                f"\n@attribute GoldStandard numeric\n\n@data\n{rows}\n"
            )


def aff_wild2(root: Path) -> None:
    for name, n_frames in (("video1", 6), ("10-60-1280x720", 5), ("val7", 4), ("hidden", 3)):
        video(root / "batch1" / f"{name}.mp4", n_frames)
    va = root / "Annotations" / "VA_Estimation_Challenge"
    for part, name, lines in (
        ("Train_Set", "video1_left", ["0.1,0.2"] * 6),
        ("Train_Set", "10-60-1280x720", ["0.5,-0.5", "-5,-5", "-5,0.3", "0,0", "1,-1", "0,0"]),
        ("Train_Set", "lost", ["0,0"]),
        ("Validation_Set", "val7", ["0.3, 0.3"] * 4),
    ):
        (va / part).mkdir(parents=True, exist_ok=True)
        (va / part / f"{name}.txt").write_text("\n".join(["valence,arousal", *lines]) + "\n")
    names = root / "Valence_Arousal_Estimation_Challenge_test_set_release.txt"
    names.write_text("hidden\n")
