"""Kills, interruptions, full disks and malicious files cost the current work and nothing else."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affuse.cache.store import FeatureStore
from affuse.corpora._folder import scan
from affuse.engines._extraction import ExtractionSettings, ExtractReport, extract
from affuse.errors import EnvironmentFailure, MediaError
from affuse.manifest import Clip, Manifest
from affuse.media.decoder import Decoder, Limits
from affuse.media.inputs import Sound, Source

from ..media_files import garbled, write_clip
from ..small import Steps
from .conftest import PAIR, digests

STEPS = f"{Steps.__module__}.Steps"


def forked(work: Callable[[], object]) -> int:
    """Run a function in a forked child and return its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        work()
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds children in /proc")
def test_resume_after_a_kill_at_any_point(clips: Manifest, whole: dict[str, str], tmp_path: Path) -> None:
    choose = random.Random(5)

    def run() -> ExtractReport:
        return extract(clips, PAIR, FeatureStore(tmp_path), settings=ExtractionSettings(workers=1))

    n_killed = 0
    for _ in range(60):
        pid = forked(run)
        time.sleep(choose.uniform(0.05, 0.7))
        try:
            victims = [pid, *children(pid)]
            victim = choose.choice(victims)
            os.kill(victim, signal.SIGKILL)
            n_killed += 1
        except (ProcessLookupError, FileNotFoundError):
            victim = pid
        if victim == pid:
            os.waitpid(pid, 0)
        else:
            assert os.waitpid(pid, 0)[1] == 0  # the death of a decoder does not end the extraction
        if n_killed == 20:
            break
        if len(digests(tmp_path)) == len(whole):
            assert digests(tmp_path) == whole
            for path in tmp_path.rglob("*.h5"):
                path.unlink()
    assert n_killed == 20
    report = run()
    assert digests(tmp_path) == whole
    assert not [f for f in report.failures if f.code not in ("unreadable",)]


def test_three_extractions_at_once_on_one_folder(clips: Manifest, whole: dict[str, str], tmp_path: Path) -> None:
    def run() -> ExtractReport:
        return extract(clips, PAIR, FeatureStore(tmp_path), settings=ExtractionSettings(workers=1))

    assert [os.waitpid(pid, 0)[1] for pid in [forked(run) for _ in range(3)]] == [0, 0, 0]
    assert digests(tmp_path) == whole
    assert not list(tmp_path.rglob("*.tmp"))


def test_ctrl_c_keeps_finished_shards(clips: Manifest, tmp_path: Path) -> None:
    rows = [Clip(f"{i:03d}", video=clips[i % 17].video, start=0.0, end=0.3) for i in range(900)]
    Manifest(rows).write(tmp_path / "clips.csv")
    command = [
        sys.executable,
        "-m",
        "affuse",
        "extract",
        str(tmp_path / "clips.csv"),
        "-e",
        "logmel",
        "-o",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.rglob("*.h5")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and time.monotonic() - began < 10
    assert "repeat the command to resume" in said
    committed = digests(tmp_path / "out")
    report = extract(Manifest(rows), ["logmel"], FeatureStore(tmp_path / "out"))
    assert 0 < report.n_decoded < 900
    assert committed.items() <= digests(tmp_path / "out").items()


def test_resume_after_a_full_disk(clips: Manifest, whole: dict[str, str], small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    with pytest.raises(EnvironmentFailure, match="No space left.*resumes where it stopped"):
        extract(clips, PAIR, FeatureStore(small_disk / "store"), settings=ExtractionSettings(workers=1))
    assert not list(small_disk.rglob("*.tmp"))
    left = digests(small_disk / "store")
    assert left.items() <= whole.items()
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    extract(clips, PAIR, FeatureStore(small_disk / "store"))
    assert digests(small_disk / "store") == whole


def test_three_hundred_mutated_files(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    sources = [
        write_clip(tmp_path / "a.mp4", seconds=0.4, size=(64, 48)),
        write_clip(tmp_path / "b.mkv", seconds=0.4, size=(64, 48)),
        write_clip(tmp_path / "c.flac", seconds=0.4, video=False, audio_codec="flac"),
        write_clip(tmp_path / "d.avi", seconds=0.4, size=(64, 48), video_codec="mpeg4", audio_codec="pcm_s16le"),
    ]
    folder.mkdir()
    for i in range(300):
        source = sources[i % len(sources)]
        (folder / f"{i:03d}{source.suffix}").write_bytes(garbled(source.read_bytes(), i))
    clips, store = scan(folder), FeatureStore(tmp_path / "store")
    report = extract(clips, PAIR, store, settings=ExtractionSettings(decode_seconds=20))
    for key in report.keys.values():
        rows = store.rows(key)
        assert len(rows) == 300
        assert all((row.code == "ok") == (row.reason == "") for row in rows.values())
        for name, row in rows.items():
            features = store.read(key, name)
            assert (features is not None) == (row.code == "ok")
            assert features is None or np.isfinite(features.values).all()
    codes = {f.code for f in report.failures}
    assert "unreadable" in codes and "decoder_crashed" not in codes


def test_a_file_that_never_ends_times_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    write_clip(tmp_path / "a.wav", seconds=0.4, video=False, audio_codec="pcm_s16le")
    sources = [Source(None, tmp_path / name) for name in ("pipe.wav", "a.wav")]
    with Decoder([Sound()], limits=Limits(seconds=1)) as decoder:
        decoder.queue(sources, [0])
        with pytest.raises(MediaError, match="timeout: decoding took longer than 1 seconds"):
            list(decoder.clip())
        (part,) = decoder.clip()
        assert part.media[0].values.shape == (6400,)
    clips = Manifest([Clip("pipe", audio=tmp_path / "pipe.wav")])
    report = extract(clips, ["logmel"], FeatureStore(tmp_path / "o"))
    assert [f.code for f in report.failures] == ["file_missing"]
