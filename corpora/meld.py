"""MELD: utterances of a television series with seven emotions and the official split.

Labels are in ``{train,dev,test}_sent_emo.csv``; videos are in ``train_splits``,
``dev_splits_complete`` and ``output_repeated_splits_test`` as ``dia<D>_utt<U>.mp4``.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import ManifestError
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading, note
from ._files import find_file, find_media, match_names, read_table

PARTS = {"train": "train", "dev": "validation", "test": "test"}
NAME = re.compile(r"(?P<corrected>final_videos_test)?(?P<name>dia\d+_utt\d+)")
FAULTY = {
    "train/dia125_utt3": "corrupt",
    "train/dia309_utt0": "wrongly cut",
    "test/dia38_utt4": "wrongly cut, five minutes long",
    "test/dia220_utt0": "wrongly cut, four minutes long",
}


class Meld(Corpus):
    """MELD: 13,708 utterances of a series, 7 emotions, official split."""

    info = CorpusInfo(
        licence="GPL-3.0 for the annotations; the recordings belong to their owners",
        citation="Poria, Hazarika, Majumder, Naik, Cambria, Mihalcea (2019). MELD: A Multimodal "
        "Multi-Party Dataset for Emotion Recognition in Conversations. ACL 2019",
        source="affective-meld.github.io, free; no agreement",
    )
    emotions = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
    protocols = {"official": "train, validation (dev) and test as distributed"}
    names_speakers = False

    def published_counts(self) -> Mapping[str, int]:
        """Return the published numbers."""
        return {"clips": 13708, "train clips": 9989, "validation clips": 1109, "test clips": 2610}

    def read(self, root: Path) -> CorpusReading:
        """List the utterances that have a label and a video."""
        clips: list[Clip] = []
        absent, replaced, unlabelled = [], [], 0
        for part, split in PARTS.items():
            labels = find_file(root, f"{part}_sent_emo.csv")
            videos, corrected = _videos(root, part)
            unlabelled += len(videos)
            for row in read_table(labels, ["Dialogue_ID", "Utterance_ID", "Emotion"]):
                dialogue, emotion = int(row["Dialogue_ID"]), row["Emotion"].strip().lower()
                name = f"dia{dialogue}_utt{int(row['Utterance_ID'])}"
                if emotion not in self.emotions:
                    raise ManifestError(
                        f"{labels}: {name} has the emotion {emotion!r}; expected one of {', '.join(self.emotions)}."
                    )
                if name not in videos:
                    absent.append(f"{part}/{name}")
                    continue
                unlabelled -= 1
                replaced += [name] if name in corrected else []
                speaker = f"{part}/dia{dialogue}"
                clips.append(
                    Clip(id=f"{part}/{name}", video=videos[name], split=split, speaker=speaker, emotion=emotion)
                )
        faulty = [f"{c.id} ({FAULTY[c.id]})" for c in clips if c.id in FAULTY]
        notes = (
            "the same characters speak in every part, so the column speaker holds the dialogue; "
            "results on MELD are not speaker-independent",
            *note(len(absent), "labelled utterances have no video and were left out", absent),
            *note(len(replaced), "videos were replaced by their corrected copy (final_videos_test)"),
            *note(unlabelled, "videos without a label were left out"),
            *note(len(faulty), "clips are known to be faulty and were kept", faulty),
        )
        return CorpusReading(Manifest(clips, name="meld"), notes)


def _videos(root: Path, part: str) -> tuple[dict[str, Path], set[str]]:
    """Return the videos of a part by name, and the names of those that are corrected copies."""
    folders = sorted(p for p in root.rglob("*") if p.is_dir() and "split" in p.name and part in p.name)
    if len(folders) != 1:
        raise ManifestError(
            f"{root} holds {len(folders)} folders with the videos of {part}. Expected one, such as train_splits, "
            "dev_splits_complete or output_repeated_splits_test."
        )
    # Corrected copies are sorted behind the videos that they replace.
    found = [(match, files.video) for match, files in match_names(find_media(folders[0]), NAME)[0]]
    videos = {match["name"]: video for match, video in found if video}
    return videos, {match["name"] for match, video in found if video and match["corrected"]}


plugin = Meld
