"""Robustness of extraction: killed processes, malicious files, and memory for long recordings.

``python benchmarks/robustness.py kill``    200 kills of the main process or a decoder, each resumed
``python benchmarks/robustness.py media``   10,000 mutated media files
``python benchmarks/robustness.py memory``  peak memory for a file of three hours and of three minutes
"""

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from media_files import garbled, write_clip

from affuse.cache.store import FeatureStore
from affuse.corpora._folder import scan
from affuse.engines import local  # noqa: F401  imported before forking
from affuse.engines._extraction import ExtractionSettings, extract

PAIR = ("logmel", "hog,fps=5")


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.h5"))
    }


def forked(clips: Path, out: Path) -> int:
    """Extract in a forked child and return its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            extract(scan(clips), PAIR, FeatureStore(out), settings=ExtractionSettings(workers=2))
        finally:
            os._exit(0)
    return pid


def kill(n: int, folder: Path) -> None:
    """Kill processes at random until `n` kills succeeded, and compare every finished store."""
    clips = folder / "clips"
    for i in range(50):
        write_clip(clips / f"{i:02d}.mp4", seconds=0.3 + 0.1 * (i % 5), size=(96, 64), seed=i)
    extract(scan(clips), PAIR, FeatureStore(folder / "whole"))
    whole, choose = digests(folder / "whole"), random.Random(0)
    hits: Counter[str] = Counter()
    runs = 0
    while sum(hits.values()) < n:
        out = folder / f"run{runs}"
        runs += 1
        while digests(out) != whole:
            assert digests(out).items() <= whole.items(), "a shard differs"
            pid = forked(clips, out)
            time.sleep(choose.uniform(0.02, 1.2))
            listed = [int(c) for p in Path(f"/proc/{pid}/task").glob("*/children") for c in p.read_text().split()]
            victim = choose.choice([pid, *listed])
            try:
                os.kill(victim, signal.SIGKILL)
                hits["main process" if victim == pid else "decoder"] += 1
            except ProcessLookupError:
                pass
            os.waitpid(pid, 0)
    print(f"{dict(hits)} kills over {runs} runs: every store equal to the uninterrupted one")


def media(n: int, folder: Path) -> None:
    """Extract `n` mutated files; each must end as features or as a row with a reason."""
    sources = [
        write_clip(folder / "a.mp4", seconds=0.5, size=(64, 48)),
        write_clip(folder / "b.mkv", seconds=0.5, size=(64, 48)),
        write_clip(folder / "c.flac", seconds=0.5, video=False, audio_codec="flac"),
        write_clip(folder / "d.avi", seconds=0.5, size=(64, 48), video_codec="mpeg4", audio_codec="pcm_s16le"),
        write_clip(
            folder / "e.webm",
            seconds=0.5,
            size=(64, 48),
            video_codec="libvpx-vp9",
            audio_codec="libopus",
            sampling_rate=48_000,
        ),
        write_clip(folder / "f.mp3", seconds=0.5, video=False, audio_codec="mp3"),
        write_clip(folder / "g.wav", seconds=0.5, video=False, audio_codec="pcm_s16le"),
        write_clip(folder / "h.ts", seconds=0.5, size=(64, 48)),
    ]
    (folder / "clips").mkdir()
    for i in range(n):
        source = sources[i % len(sources)]
        data = garbled(source.read_bytes(), i)
        (folder / "clips" / f"{i:05d}{source.suffix}").write_bytes(data)
    store, began = FeatureStore(folder / "store"), time.monotonic()
    report = extract(scan(folder / "clips"), PAIR, store, settings=ExtractionSettings(decode_seconds=30))
    codes: Counter[str] = Counter()
    for key in report.keys.values():
        for name, row in store.rows(key).items():
            codes[row.code] += 1
            features = store.read(key, name)
            assert (features is not None) == (row.code == "ok") != bool(row.reason)
            assert features is None or np.isfinite(features.values).all()
    assert sum(codes.values()) == 2 * n
    crashed = [f for f in report.failures if f.code in ("decoder_crashed", "timeout")]
    print(f"{n} files in {time.monotonic() - began:.0f} s: {dict(codes)}")
    print(f"decoder crashes and time limits: {len(crashed)}, each recorded as a row")
    for failure in crashed[:20]:
        print("   ", failure)


def memory(n: int, folder: Path) -> None:
    """Compare the peak memory of the main process and the decoder for a long and a short file."""
    peaks = {}
    for name, minutes in (("short", 3), ("long", 3 * n)):
        clips = folder / name
        write_clip(
            clips / "a.mkv",
            seconds=60,
            fps=5,
            size=(160, 120),
            sampling_rate=16_000,
            layout="mono",
            options={"bf": "0"},
        )
        _repeated(clips / "a.mkv", minutes)
        script = (
            "import sys, json, re, threading, time\nfrom pathlib import Path\n"
            "from affuse.corpora._folder import scan\nfrom affuse.cache.store import FeatureStore\n"
            "from affuse.engines._extraction import extract, ExtractionSettings\n"
            "peak = [0, 0]\n"
            "def kilobytes(pid):\n"
            "    text = Path(f'/proc/{pid}/status').read_text()\n"
            "    return int((re.search(r'VmHWM:\\s+(\\d+)', text) or [0, 0])[1])\n"
            "def watch():\n"
            "    while True:\n"
            "        listed = Path('/proc/self/task').glob('*/children')\n"
            "        for child in ' '.join(path.read_text() for path in listed).split():\n"
            "            words = Path(f'/proc/{child}/cmdline').read_bytes().split(b'\\0')\n"
            "            if b'affuse.media.decoder' in words:\n"
            "                peak[1] = max(peak[1], kilobytes(child))\n"
            "        time.sleep(0.02)\n"
            "threading.excepthook = lambda _: None\n"
            "threading.Thread(target=watch, daemon=True).start()\n"
            "report = extract(scan(Path(sys.argv[1])), ['logmel', 'hog,fps=5', 'hog,pool=mean'],"
            " FeatureStore(sys.argv[2]), settings=ExtractionSettings(workers=1))\n"
            "assert not report.failures, report.failures\n"
            "print(json.dumps([kilobytes('self'), peak[1]]))\n"
        )
        output = subprocess.run(
            [sys.executable, "-c", script, str(clips), str(folder / f"{name}-o")], check=True, capture_output=True
        ).stdout
        peaks[name] = [kilobytes / 1024 for kilobytes in json.loads(output)]
    for who, short, long in zip(("main", "decoder"), *peaks.values(), strict=True):
        print(
            f"{who:8} {short:6.0f} MB for 3 minutes, {long:6.0f} MB for {3 * n} minutes: "
            f"{long / short:.2f}  (bar: 1.10)"
        )


def _repeated(path: Path, minutes: int) -> None:
    """Lengthen a file by repeating its packets at later times."""
    import av

    longer = path.with_suffix(".long.mkv")
    with av.open(str(longer), "w") as out:
        with av.open(str(path)) as source:
            streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for minute in range(minutes):
            with av.open(str(path)) as source:
                for packet in source.demux():
                    if packet.dts is None or float(packet.pts * packet.time_base) >= 60:
                        continue
                    later = round(61 * minute / packet.time_base)
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = streams[packet.stream_index]
                    out.mux(packet)
    longer.replace(path)


def main() -> None:
    """Run one of the three benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=["kill", "media", "memory"], help="Benchmark to run.")
    parser.add_argument("--n", type=int, help="Number of kills or files, or length factor of the long file.")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    work, n = {"kill": (kill, 200), "media": (media, 10_000), "memory": (memory, 60)}[options.which]
    with tempfile.TemporaryDirectory() as folder:
        work(options.n or n, Path(folder))
    print(f"{sum(sum(resource.getrusage(w)[:2]) for w in (0, -1)):.0f} s CPU")


if __name__ == "__main__":
    main()
