"""CREMA-D: 91 actors speak twelve sentences in six emotions.

A file's name is ``ACTOR_SENTENCE_EMOTION_LEVEL``. The label is the emotion the actor intended, or,
on request, the one that the crowd saw or heard (``processedResults/summaryTable.csv``).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import ManifestError, UnknownName
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._files import file_of, media, table, told

NAME = re.compile(r"(10\d\d)_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)")
VOTES = {"multimodal": "MultiModalVote", "face": "FaceVote", "voice": "VoiceVote"}
FAULTY = {
    "1064_IEO_DIS_MD": "a minute long, several emotions",
    "1064_TIE_SAD_XX": "no duration",
    "1076_MTI_NEU_XX": "no sound",
    "1076_MTI_SAD_XX": "no face, no sound",
}


class CremaD(Corpus):
    """CREMA-D: 91 actors, 6 acted emotions, intended labels or the crowd's.

    Parameters
    ----------
    protocol : str or None
    labels : str
        ``intended``, or the vote of those who had ``multimodal``, ``face`` or ``voice``; a tie is
        not annotated.
    """

    facts = CorpusInfo(
        licence="Open Database License (ODbL) 1.0",
        citation="Cao, Cooper, Keutmann, Gur, Nenkova, Verma (2014). CREMA-D: Crowd-Sourced "
        "Emotional Multimodal Actors Dataset. IEEE Transactions on Affective Computing 5(4)",
        source="github.com/CheyneyComputerScience/CREMA-D, with Git LFS; no agreement",
    )
    emotions = ("anger", "disgust", "fear", "happy", "neutral", "sad")
    protocols = {"folds": "no official split; actors are kept together, --folds says how many"}

    def __init__(self, *, protocol: str | None = None, labels: str = "intended") -> None:
        super().__init__(protocol=protocol)
        if labels not in ("intended", *VOTES):
            raise UnknownName("source of labels", labels, ("intended", *VOTES))
        self.labels = labels

    def published(self) -> Mapping[str, int]:
        """Return the published counts; of emotions only where they are the intended ones."""
        counts = {"clips": 7442, "speakers": 91}
        intended = {e: 1087 if e == "neutral" else 1271 for e in self.emotions}
        return counts | intended if self.labels == "intended" else counts

    def read(self, root: Path) -> CorpusReading:
        """List the clips of `VideoFlash` and `AudioWAV`, or `AudioMP3` where that is all."""
        votes = self._votes(root) if self.labels != "intended" else None
        codes = dict(zip(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), self.emotions, strict=True))
        clips, foreign = [], []
        for name, files in media(root).items():
            match = NAME.fullmatch(name)
            if match is None:
                foreign.append(name)
                continue
            wav = sorted(files.audio, key=lambda p: p.suffix.lower() != ".wav")
            clips.append(
                Clip(
                    id=name,
                    video=next(iter(files.video), None),
                    audio=next(iter(wav), None),
                    speaker=match[1],
                    emotion=codes[match[3]] if votes is None else votes.get(name),
                )
            )
        if not clips:
            raise ManifestError(f"{root} holds no file of CREMA-D; wanted names such as 1001_DFA_ANG_XX.flv")
        faulty = [f"{c.id} ({FAULTY[c.id]})" for c in clips if c.id in FAULTY]
        bare = [c.id for c in clips if c.emotion is None]
        notes = (
            *told(len(foreign), "media files do not bear CREMA-D's names, left out", foreign),
            *told(len(faulty), "clips are known to be faulty, kept for extraction to judge", faulty),
            *told(len(bare), "clips have a tied vote or none, and no label", bare),
        )
        return CorpusReading(Manifest(clips, name="crema-d"), notes)

    def _votes(self, root: Path) -> dict[str, str | None]:
        column = VOTES[self.labels]
        words = dict(zip("ADFHNS", self.emotions, strict=True))
        rows = table(file_of(root, "summaryTable.csv"), ["FileName", column])
        return {row["FileName"]: words.get(row[column].strip()) for row in rows}


plugin = CremaD
