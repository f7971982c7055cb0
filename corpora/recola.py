"""RECOLA as released for AVEC 2015 and 2016: valence and arousal every 40 ms, in French.

Recordings are in ``recordings_audio`` and ``recordings_video``, the gold standard is in
``ratings_gold_standard/{arousal,valence}/<part>_<n>.arff`` with rows of name, time and value.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..annotations import DIMENSIONS, Track
from ..errors import ManifestError, listing
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading, note
from ._files import find_folder, find_media, match_names

NAME = re.compile(r"(train|dev|test)_\d+")


class Recola(Corpus):
    """RECOLA (AVEC 2016): 27 speakers of French, valence and arousal every 40 ms."""

    info = CorpusInfo(
        licence="RECOLA end-user licence agreement; research use",
        citation="Ringeval, Sonderegger, Sauer, Lalanne (2013). Introducing the RECOLA "
        "multimodal corpus of remote collaborative and affective interactions. EmoSPACE, FG 2013",
        source="diuf.unifr.ch/main/diva/recola, after signing the agreement",
    )
    protocols = {"avec2016": "nine train, nine validation (dev), nine test recordings"}

    def published_counts(self) -> Mapping[str, int]:
        """Return the numbers of the release for the challenge."""
        return {"clips": 27, "speakers": 27, "train clips": 9, "validation clips": 9, "test clips": 9}

    def read(self, root: Path) -> CorpusReading:
        """List the recordings, with the gold standard as labels over time; the test part has none."""
        find_folder(root, "recordings_audio", "recordings_video")
        gold_standard = find_folder(root, "ratings_gold_standard")
        matched, others = match_names(find_media(root), NAME)
        clips = [
            Clip(
                id=match[0],
                video=files.video,
                audio=files.audio,
                speaker=match[0],
                split="validation" if match[1] == "dev" else match[1],
            )
            for match, files in matched
        ]
        tracks = {clip.id: track for clip in clips if (track := _track(gold_standard, clip.id)) is not None}
        unlabelled = [c.id for c in clips if c.split != "test" and c.id not in tracks]
        if unlabelled:
            raise ManifestError(
                f"{gold_standard} holds no valence and arousal of {listing(unlabelled)}. Expected "
                "valence/<part>_<n>.arff and arousal/<part>_<n>.arff."
            )
        notes = (
            "annotations lag behind the recording: compensate the delay (2 to 4 seconds; 2.32 s for valence and "
            "2.72 s for arousal in the papers on JCA)",
            *note(len(others), "media files without a name of RECOLA were left out", others),
        )
        return CorpusReading(Manifest(clips, name="recola"), notes, tracks)


def _track(folder: Path, name: str) -> Track | None:
    paths = {d: folder / d / f"{name}.arff" for d in DIMENSIONS}
    if not all(path.is_file() for path in paths.values()):
        return None
    columns = {d: _read_arff(path) for d, path in paths.items()}
    times = columns["valence"][:, 0]
    if not np.array_equal(times, columns["arousal"][:, 0]):
        raise ManifestError(f"{name}: valence and arousal are annotated at different times; expected the same times.")
    return Track(times, np.stack([columns[d][:, 1] for d in DIMENSIONS], axis=1))


def _read_arff(path: Path) -> np.ndarray:
    """Return the times and values below ``@data``: shape (rows, 2)."""
    text = path.read_text(encoding="utf-8", errors="replace")
    _, found, data = text.replace("@DATA", "@data").partition("@data")
    rows = [row for row in csv.reader(data.splitlines()) if len(row) == 3]
    try:
        values = np.array([[float(time), float(value)] for _, time, value in rows])
    except ValueError as error:
        raise ManifestError(f"{path}: {error}. Expected rows of name, time and value.") from None
    if not found or not len(values) or not (np.diff(values[:, 0]) > 0).all():
        raise ManifestError(f"{path} has no rows below @data. Expected name, increasing time and value.")
    return values


plugin = Recola
