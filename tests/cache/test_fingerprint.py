"""A fingerprint changes with the media and the segment of a clip, and with nothing else."""

import os
from dataclasses import replace
from pathlib import Path

from affuse.cache.store import MISSING, fingerprint
from affuse.manifest import Clip


def test_a_fingerprint_follows_media_and_segment(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"x" * 20_000)
    clip = Clip("a", audio=path)
    size, digest = fingerprint(clip)
    assert size == 20_000
    os.utime(path, (0, 0))
    assert fingerprint(replace(clip, id="b", emotion="sad")) == (size, digest)
    assert fingerprint(replace(clip, start=1.0))[1] != digest
    path.write_bytes(b"x" * 10_000 + b"y" + b"x" * 9_999)
    assert fingerprint(clip)[1] != digest


def test_media_that_cannot_be_read_are_missing(tmp_path: Path) -> None:
    assert fingerprint(Clip("a", audio=tmp_path / "none.wav")) == (0, MISSING)
    os.mkfifo(tmp_path / "pipe.wav")
    assert fingerprint(Clip("a", audio=tmp_path / "pipe.wav")) == (0, MISSING)
