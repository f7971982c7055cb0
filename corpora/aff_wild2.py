"""Aff-Wild2: valence and arousal at every frame of videos from the wild (ABAW challenges).

Labels stand in ``VA_Estimation_Challenge/{Train_Set,Validation_Set}/<video>.txt``: a header, then
line i for frame i, -5 where not annotated. A name that ends in ``_left`` or ``_right`` is one of
two people in the same video. Frames are timed from the video itself, whose rate may vary.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..annotations import Track
from ..errors import ManifestError, MediaError
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._demo_video import frame_times
from ._files import Files, media, told

SETS = {"Train_Set": "train", "Validation_Set": "validation"}
TEST_LISTS = ("*VA_test_set*.txt", "Valence_Arousal*test_set*.txt")
PERSON = re.compile(r"_(left|right)$")
ABSENT = -5
N_FOLDS = 5


class AffWild2(Corpus):
    """Aff-Wild2: valence and arousal at every frame of 594 videos from the wild."""

    facts = CorpusInfo(
        licence="Aff-Wild2 end-user licence agreement; research use",
        citation="Kollias, Zafeiriou (2019). Expression, Affect, Action Unit Recognition: "
        "Aff-Wild2, Multi-Task Learning and ArcFace. BMVC 2019",
        source="ibug.doc.ic.ac.uk/resources/aff-wild2, after signing the agreement",
    )
    protocols = {
        "official": "the challenge's Train_Set, Validation_Set and, where listed, test set",
        "six-folds": "the train set in five folds by name, the validation set as the sixth "
        "(after RJCMA, whose dealing is not public)",
    }

    def published(self) -> Mapping[str, int]:
        """Return the counts of the fifth and sixth challenge."""
        if self.protocol == "six-folds":
            return {"clips": 432}
        return {"clips": 594, "train clips": 356, "validation clips": 76, "test clips": 162}

    def read(self, root: Path) -> CorpusReading:
        """List the annotated videos, with tracks at their frames' own times."""
        files = media(root)
        clips, tracks, faults = [], {}, []
        for name, split, path in _listed(root):
            person = PERSON.search(name)
            source = files.get(name) or files.get(PERSON.sub("", name))
            if source is None or not source.video:
                faults.append(f"{name} (no video)")
                continue
            try:
                times = frame_times(source.video[0])
            except MediaError as error:
                faults.append(f"{name} ({error.reason})")
                continue
            labels = _labels(path) if path else np.full((len(times), 2), np.nan)
            if len(labels) != len(times):
                faults.append(f"{name} ({len(labels)} labels for {len(times)} frames, cut)")
            n = min(len(labels), len(times))
            tracks[name] = Track(times[:n], labels[:n])
            clips.append(_clip(name, split, source, person))
        if not clips:
            raise ManifestError(
                f"{root}: labels but none of their videos ({', '.join(faults[:3])}); wanted the "
                "videos and VA_Estimation_Challenge below one folder"
            )
        n_absent = sum(int(np.isnan(t.values).any(axis=1).sum()) for t in tracks.values())
        pairs = [c.id for c in clips if PERSON.search(c.id)]
        notes = (
            *told(len(faults), "videos with faults", faults),
            *told(n_absent, "frames are not annotated (-5), nan in the labels"),
            *told(
                len(pairs),
                "clips are one of two people in a video: pictures are right only with that person's face crop",
                pairs,
            ),
        )
        return CorpusReading(Manifest(self._divided(clips), name="aff-wild2"), notes, tracks)

    def _divided(self, clips: list[Clip]) -> list[Clip]:
        if self.protocol != "six-folds":
            return clips
        videos = sorted({c.speaker or "" for c in clips if c.split == "train"})
        size = max(1, len(videos) // N_FOLDS)
        fold = {v: str(min(i // size, N_FOLDS - 1)) for i, v in enumerate(videos)}
        return [
            dataclasses.replace(c, split=None, fold=fold.get(c.speaker or "", str(N_FOLDS)))
            for c in clips
            if c.split != "test"
        ]


def _clip(name: str, split: str, source: Files, person: re.Match[str] | None) -> Clip:
    video = PERSON.sub("", name)
    # Two people in one video are two speakers.
    return Clip(
        id=name,
        video=source.video[0],
        audio=next(iter(source.audio), None),
        speaker=f"{video}_{person[1]}" if person else video,
        split=split,
    )


def _listed(root: Path) -> list[tuple[str, str, Path | None]]:
    """Return name, split and label file of every listed video."""
    found: list[tuple[str, str, Path | None]] = []
    for folder, split in SETS.items():
        places = [p for p in root.rglob(folder) if p.is_dir() and p.parent.name.startswith("VA")]
        if len(places) != 1:
            raise ManifestError(f"{root} holds {len(places)} folders VA_Estimation_Challenge/{folder}; wanted one")
        found += [(path.stem, split, path) for path in sorted(places[0].glob("*.txt"))]
    lists = sorted({p for pattern in TEST_LISTS for p in root.rglob(pattern)})
    names: dict[str, None] = {}
    for path in lists[:1]:
        lines = path.read_text(encoding="utf-8", errors="replace").split()
        names |= dict.fromkeys(line.partition("/")[0] for line in lines if not line.startswith("image_location"))
    return found + [(name, "test", None) for name in names]


def _labels(path: Path) -> np.ndarray:
    text = path.read_text(encoding="utf-8", errors="replace")
    header, *lines = [line.replace(" ", "") for line in text.splitlines() if line.strip()] or [""]
    if header.lower() != "valence,arousal":
        raise ManifestError(f"{path}, line 1: {header[:40]!r}; wanted 'valence,arousal'")
    try:
        values = np.array([[float(cell) for cell in line.split(",")] for line in lines])
        values = values.reshape(-1, 2)
    except ValueError:
        raise ManifestError(f"{path}: wanted two numbers a line, one line a frame") from None
    known = (values != ABSENT).all(axis=1, keepdims=True)
    if (np.abs(values[known[:, 0]]) > 1).any():
        raise ManifestError(f"{path}: values beyond -1 to 1; wanted those, or -5 throughout")
    return np.where(known, values, np.nan)


plugin = AffWild2
