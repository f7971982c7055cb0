"""RECOLA as released for AVEC 2015 and 2016: valence and arousal every 40 ms, in French.

Recordings stand in ``recordings_audio`` and ``recordings_video``, the gold standard in
``ratings_gold_standard/{arousal,valence}/<part>_<n>.arff``, rows of name, time and value.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..annotations import DIMENSIONS, Track
from ..errors import ManifestError, listing
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._files import folder_of, media, told

SPLITS = {"train": "train", "dev": "validation", "test": "test"}


class Recola(Corpus):
    """RECOLA (AVEC 2016): 27 speakers of French, valence and arousal every 40 ms."""

    facts = CorpusInfo(
        licence="RECOLA end-user licence agreement; research use",
        citation="Ringeval, Sonderegger, Sauer, Lalanne (2013). Introducing the RECOLA "
        "multimodal corpus of remote collaborative and affective interactions. EmoSPACE, FG 2013",
        source="diuf.unifr.ch/main/diva/recola, after signing the agreement",
    )
    protocols = {"avec2016": "nine train, nine validation (dev), nine test recordings"}

    def published(self) -> Mapping[str, int]:
        """Return the counts of the challenge's release."""
        return {"clips": 27, "speakers": 27, "train clips": 9, "validation clips": 9, "test clips": 9}

    def read(self, root: Path) -> CorpusReading:
        """List the recordings, with the gold standard as tracks; the test part has none."""
        folder_of(root, "recordings_audio", "recordings_video")
        gold = folder_of(root, "ratings_gold_standard")
        clips, tracks, foreign = [], {}, []
        for name, files in media(root).items():
            part = name.partition("_")[0]
            if part not in SPLITS or not name.removeprefix(f"{part}_").isdigit():
                foreign.append(name)
                continue
            clips.append(
                Clip(
                    id=name,
                    video=next(iter(files.video), None),
                    audio=next(iter(files.audio), None),
                    speaker=name,
                    split=SPLITS[part],
                )
            )
            track = _gold(gold, name)
            if track is not None:
                tracks[name] = track
        bare = [c.id for c in clips if c.split != "test" and c.id not in tracks]
        if bare:
            raise ManifestError(
                f"{gold} holds no valence and arousal of {listing(bare)}; wanted "
                "valence/<part>_<n>.arff and arousal/<part>_<n>.arff"
            )
        notes = (
            "annotators answer late: compensate the delay (2 to 4 seconds; 2.32 s for valence and "
            "2.72 s for arousal in the papers of JCA)",
            *told(len(foreign), "media files do not bear RECOLA's names, left out", foreign),
        )
        return CorpusReading(Manifest(clips, name="recola"), notes, tracks)


def _gold(folder: Path, name: str) -> Track | None:
    paths = {d: folder / d / f"{name}.arff" for d in DIMENSIONS}
    if not all(path.is_file() for path in paths.values()):
        return None
    columns = {d: _arff(path) for d, path in paths.items()}
    times = columns["valence"][:, 0]
    if not np.array_equal(times, columns["arousal"][:, 0]):
        raise ManifestError(f"{name}: valence and arousal are annotated at different times")
    return Track(times, np.stack([columns[d][:, 1] for d in DIMENSIONS], axis=1))


def _arff(path: Path) -> np.ndarray:
    """Read the times and values behind ``@data``."""
    text = path.read_text(encoding="utf-8", errors="replace")
    _, found, data = text.replace("@DATA", "@data").partition("@data")
    rows = [row for row in csv.reader(data.splitlines()) if len(row) == 3]
    try:
        values = np.array([[float(time), float(value)] for _, time, value in rows])
    except ValueError as error:
        raise ManifestError(f"{path}: {error}; wanted rows of name, time, value") from None
    if not found or not len(values) or not (np.diff(values[:, 0]) > 0).all():
        raise ManifestError(f"{path}: no rows of name, rising time and value behind @data")
    return values


plugin = Recola
