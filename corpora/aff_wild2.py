"""Aff-Wild2: valence and arousal at every frame of videos from the web (ABAW challenges).

Labels are in ``VA_Estimation_Challenge/{Train_Set,Validation_Set}/<video>.txt``: a header, then line i
for frame i, with -5 where it is not annotated. A name that ends in ``_left`` or ``_right`` is one of
two people in the same video. The times of the frames come from the video, whose rate may vary.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..annotations import Track
from ..errors import ManifestError, MediaError
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading, consecutive_folds, note
from ._demo_video import frame_times
from ._files import find_media

SETS = {"Train_Set": "train", "Validation_Set": "validation"}
TEST_LISTS = ("*VA_test_set*.txt", "Valence_Arousal*test_set*.txt")
PERSON = re.compile(r"_(left|right)$")
NOT_ANNOTATED = -5
N_FOLDS = 5


class AffWild2(Corpus):
    """Aff-Wild2: valence and arousal at every frame of 594 videos from the web."""

    info = CorpusInfo(
        licence="Aff-Wild2 end-user licence agreement; research use",
        citation="Kollias, Zafeiriou (2019). Expression, Affect, Action Unit Recognition: "
        "Aff-Wild2, Multi-Task Learning and ArcFace. BMVC 2019",
        source="ibug.doc.ic.ac.uk/resources/aff-wild2, after signing the agreement",
    )
    protocols = {
        "official": "the challenge's Train_Set, Validation_Set and, where listed, test set",
        "six-folds": "the train set in five folds by name, the validation set as the sixth "
        "(after RJCMA, which does not publish its division)",
    }

    def published_counts(self) -> Mapping[str, int]:
        """Return the numbers of the fifth and sixth challenge."""
        if self.protocol == "six-folds":
            return {"clips": 432}
        return {"clips": 594, "train clips": 356, "validation clips": 76, "test clips": 162}

    def read(self, root: Path) -> CorpusReading:
        """List the annotated videos, with labels at the times of their frames."""
        media = find_media(root)
        clips, tracks, faults = [], {}, []
        for name, split, path in _annotations(root):
            video_name = PERSON.sub("", name)
            files = media.get(name) or media.get(video_name)
            if files is None or files.video is None:
                faults.append(f"{name} (no video)")
                continue
            try:
                times = frame_times(files.video)
            except MediaError as error:
                faults.append(f"{name} ({error.reason})")
                continue
            labels = _read_labels(path) if path else np.full((len(times), 2), np.nan)
            if len(labels) != len(times):
                faults.append(f"{name} ({len(labels)} labels for {len(times)} frames, cut)")
            n = min(len(labels), len(times))
            tracks[name] = Track(times[:n], labels[:n])
            # The name tells two people in one video apart, so it serves as the speaker.
            clips.append(Clip(id=name, video=files.video, audio=files.audio, speaker=name, split=split))
        if not clips:
            raise ManifestError(
                f"{root} holds labels but none of their videos ({', '.join(faults[:3])}). Expected the videos and "
                "VA_Estimation_Challenge below one folder."
            )
        n_missing = sum(int(np.isnan(t.values).any(axis=1).sum()) for t in tracks.values())
        pairs = [c.id for c in clips if PERSON.search(c.id)]
        notes = (
            *note(len(faults), "videos with faults", faults),
            *note(n_missing, "frames are not annotated (-5) and have nan as labels"),
            *note(
                len(pairs),
                "clips show one of two people in a video; visual features are valid only with a face crop of "
                "that person",
                pairs,
            ),
        )
        return CorpusReading(Manifest(self._divided(clips), name="aff-wild2"), notes, tracks)

    def _divided(self, clips: list[Clip]) -> list[Clip]:
        if self.protocol != "six-folds":
            return clips
        folds = consecutive_folds(sorted({c.speaker or "" for c in clips if c.split == "train"}), N_FOLDS)
        return [
            dataclasses.replace(c, split=None, fold=folds.get(c.speaker or "", str(N_FOLDS)))
            for c in clips
            if c.split != "test"
        ]


def _annotations(root: Path) -> list[tuple[str, str, Path | None]]:
    """Return name, split and label file of every listed video."""
    found: list[tuple[str, str, Path | None]] = []
    for folder, split in SETS.items():
        paths = [p for p in root.rglob(folder) if p.is_dir() and p.parent.name.startswith("VA")]
        if len(paths) != 1:
            raise ManifestError(f"{root} holds {len(paths)} folders VA_Estimation_Challenge/{folder}; expected one.")
        found += [(path.stem, split, path) for path in sorted(paths[0].glob("*.txt"))]
    lists = sorted({p for pattern in TEST_LISTS for p in root.rglob(pattern)})
    names: dict[str, None] = {}
    for path in lists[:1]:
        lines = path.read_text(encoding="utf-8", errors="replace").split()
        names |= dict.fromkeys(line.partition("/")[0] for line in lines if not line.startswith("image_location"))
    return found + [(name, "test", None) for name in names]


def _read_labels(path: Path) -> np.ndarray:
    """Return valence and arousal per frame: shape (frames, 2), nan where not annotated."""
    text = path.read_text(encoding="utf-8", errors="replace")
    header, *lines = [line.replace(" ", "") for line in text.splitlines() if line.strip()] or [""]
    if header.lower() != "valence,arousal":
        raise ManifestError(f"{path}, line 1: found {header[:40]!r}; expected 'valence,arousal'.")
    try:
        values = np.array([[float(cell) for cell in line.split(",")] for line in lines])
        values = values.reshape(-1, 2)
    except ValueError:
        raise ManifestError(f"{path}: expected two numbers per line and one line per frame.") from None
    known = (values != NOT_ANNOTATED).all(axis=1, keepdims=True)
    if (np.abs(values[known[:, 0]]) > 1).any():
        raise ManifestError(f"{path} holds values outside -1 to 1. Expected values in this range, or -5 for both.")
    return np.where(known, values, np.nan)


plugin = AffWild2
