"""A folder of small clips, and the shards of an uninterrupted extraction."""

import hashlib
from pathlib import Path

import pytest

from affuse.cache.store import FeatureStore
from affuse.corpora._folder import scan
from affuse.engines._extraction import ExtractionSettings, extract
from affuse.manifest import Manifest

from ..media_files import write_clip

PAIR = ("logmel", "hog,fps=5")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Nineteen clips, two of them broken, which make two chunks."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(17):
        write_clip(folder / f"{i:02d}.mp4", seconds=0.3 + 0.1 * (i % 4), size=(64, 48), seed=i)
    (folder / "17.mp4").write_bytes(b"#EXTM3U\n00.mp4\n")
    (folder / "18.mp4").write_bytes(b"")
    return scan(folder)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.h5"))
    }


@pytest.fixture(scope="module")
def whole(clips: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the shards of an uninterrupted run with one worker."""
    folder = tmp_path_factory.mktemp("whole")
    extract(clips, PAIR, FeatureStore(folder), settings=ExtractionSettings(workers=1))
    return digests(folder)
