"""MELD: utterances of a television series in seven emotions, with the official split.

Labels stand in ``{train,dev,test}_sent_emo.csv``, media in ``train_splits``,
``dev_splits_complete`` and ``output_repeated_splits_test`` as ``dia<D>_utt<U>.mp4``.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import ManifestError
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._files import file_of, media, table, told

PARTS = {
    "train": ("train", "train_sent_emo.csv"),
    "dev": ("validation", "dev_sent_emo.csv"),
    "test": ("test", "test_sent_emo.csv"),
}
NAME = re.compile(r"(?P<redone>final_videos_test)?(?P<name>dia\d+_utt\d+)")
FAULTY = {
    "train/dia125_utt3": "corrupt",
    "train/dia309_utt0": "wrongly cut",
    "test/dia38_utt4": "wrongly cut, five minutes long",
    "test/dia220_utt0": "wrongly cut, four minutes long",
}


class Meld(Corpus):
    """MELD: 13,708 utterances of a series, 7 emotions, official split."""

    facts = CorpusInfo(
        licence="GPL-3.0 for the annotations; the recordings belong to their owners",
        citation="Poria, Hazarika, Majumder, Naik, Cambria, Mihalcea (2019). MELD: A Multimodal "
        "Multi-Party Dataset for Emotion Recognition in Conversations. ACL 2019",
        source="affective-meld.github.io, free; no agreement",
    )
    emotions = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
    protocols = {"official": "train, validation (dev) and test as distributed"}

    def published(self) -> Mapping[str, int]:
        """Return the published counts."""
        return {"clips": 13708, "train clips": 9989, "validation clips": 1109, "test clips": 2610}

    def read(self, root: Path) -> CorpusReading:
        """List the utterances that have a label and a video."""
        clips: list[Clip] = []
        absent, redone, spare = [], [], 0
        for part, (split, labels) in PARTS.items():
            rows = table(file_of(root, labels), ["Dialogue_ID", "Utterance_ID", "Emotion"], encoding="utf-8-sig")
            videos, repaired = _videos(root, part)
            spare += len(videos)
            for row in rows:
                dialogue, emotion = int(row["Dialogue_ID"]), row["Emotion"].strip().lower()
                name = f"dia{dialogue}_utt{int(row['Utterance_ID'])}"
                if emotion not in self.emotions:
                    raise ManifestError(f"{labels}: emotion {emotion!r} of {name} is not MELD's")
                if name not in videos:
                    absent.append(f"{part}/{name}")
                    continue
                spare -= 1
                redone += [name] if name in repaired else []
                clips.append(
                    Clip(
                        id=f"{part}/{name}",
                        video=videos[name],
                        split=split,
                        speaker=f"{part}/dia{dialogue}",
                        emotion=emotion,
                    )
                )
        faulty = [f"{c.id} ({FAULTY[c.id]})" for c in clips if c.id in FAULTY]
        notes = (
            "the same characters speak in every part, so the column speaker holds the dialogue: "
            "figures on MELD are not speaker-independent",
            *told(len(absent), "labelled utterances have no video, left out", absent),
            *told(len(redone), "videos were replaced by their corrected final_videos_test copy"),
            *told(spare, "videos without a label left out"),
            *told(len(faulty), "clips are known to be faulty, kept", faulty),
        )
        return CorpusReading(Manifest(clips, name="meld"), notes)

    def counted(self, manifest: Manifest) -> Mapping[str, int]:
        """Count clips and splits; the speakers' column holds dialogues."""
        return {k: n for k, n in super().counted(manifest).items() if k != "speakers"}


def _videos(root: Path, part: str) -> tuple[dict[str, Path], set[str]]:
    """Return a part's videos by name, and which of them are corrected copies."""
    folders = sorted(p for p in root.rglob("*") if p.is_dir() and "split" in p.name and part in p.name)
    if len(folders) != 1:
        raise ManifestError(
            f"{root}: {len(folders)} folders for the videos of {part}; wanted one, such as "
            "train_splits, dev_splits_complete, output_repeated_splits_test"
        )
    videos: dict[str, Path] = {}
    repaired = set()
    for name, files in media(folders[0]).items():
        match = NAME.fullmatch(name)
        if match is None or not files.video:
            continue
        if match["redone"]:  # sorted behind the one it replaces
            repaired.add(match["name"])
        videos[match["name"]] = files.video[0]
    return videos, repaired


plugin = Meld
