"""CREMA-D: 91 actors speak twelve sentences with six emotions.

A file is named ``ACTOR_SENTENCE_EMOTION_LEVEL``. The label is the intended emotion or, on request,
the emotion that most raters perceived (``processedResults/summaryTable.csv``).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import ManifestError, check_known
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading, note
from ._files import find_file, find_media, match_names, read_table

NAME = re.compile(r"(10\d\d)_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)")
VOTES = {"multimodal": "MultiModalVote", "face": "FaceVote", "voice": "VoiceVote"}
FAULTY = {
    "1064_IEO_DIS_MD": "a minute long, several emotions",
    "1064_TIE_SAD_XX": "no duration",
    "1076_MTI_NEU_XX": "no audio",
    "1076_MTI_SAD_XX": "no face, no audio",
}


class CremaD(Corpus):
    """CREMA-D: 91 actors, 6 acted emotions, intended or perceived labels.

    Parameters
    ----------
    protocol : str or None
        One of `protocols`; None selects the first.
    labels : str
        ``intended`` for the intended emotion, or ``multimodal``, ``face`` or ``voice`` for the vote
        of the raters who perceived both modalities, the face or the voice. A clip with a tied vote
        has no label.
    """

    info = CorpusInfo(
        licence="Open Database License (ODbL) 1.0",
        citation="Cao, Cooper, Keutmann, Gur, Nenkova, Verma (2014). CREMA-D: Crowd-Sourced "
        "Emotional Multimodal Actors Dataset. IEEE Transactions on Affective Computing 5(4)",
        source="github.com/CheyneyComputerScience/CREMA-D, with Git LFS; no agreement",
    )
    emotions = ("anger", "disgust", "fear", "happy", "neutral", "sad")
    protocols = {"folds": "no official split; actors are kept together, --folds sets the number of folds"}

    def __init__(self, *, protocol: str | None = None, labels: str = "intended") -> None:
        super().__init__(protocol=protocol)
        check_known("source of labels", labels, ("intended", *VOTES))
        self.labels = labels

    def published_counts(self) -> Mapping[str, int]:
        """Return the published numbers; those of emotions only for intended labels."""
        counts = {"clips": 7442, "speakers": 91}
        intended = {e: 1087 if e == "neutral" else 1271 for e in self.emotions}
        return counts | intended if self.labels == "intended" else counts

    def read(self, root: Path) -> CorpusReading:
        """List the clips of `VideoFlash` and `AudioWAV`, or of `AudioMP3` where there is no `AudioWAV`."""
        votes = self._votes(root) if self.labels != "intended" else None
        codes = dict(zip(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), self.emotions, strict=True))
        matched, others = match_names(find_media(root), NAME)
        clips = [
            Clip(
                id=match[0],
                video=files.video,
                audio=next((p for p in files.audios if p.suffix.lower() == ".wav"), files.audio),
                speaker=match[1],
                emotion=codes[match[3]] if votes is None else votes.get(match[0]),
            )
            for match, files in matched
        ]
        if not clips:
            raise ManifestError(f"{root} holds no file of CREMA-D. Expected names such as 1001_DFA_ANG_XX.flv.")
        faulty = [f"{c.id} ({FAULTY[c.id]})" for c in clips if c.id in FAULTY]
        unlabelled = [c.id for c in clips if c.emotion is None]
        notes = (
            *note(len(others), "media files without a name of CREMA-D were left out", others),
            *note(len(faulty), "clips are known to be faulty; extraction decides whether they can be used", faulty),
            *note(len(unlabelled), "clips have a tied vote or none, and therefore no label", unlabelled),
        )
        return CorpusReading(Manifest(clips, name="crema-d"), notes)

    def _votes(self, root: Path) -> dict[str, str | None]:
        column = VOTES[self.labels]
        emotions = dict(zip("ADFHNS", self.emotions, strict=True))
        rows = read_table(find_file(root, "summaryTable.csv"), ["FileName", column])
        return {row["FileName"]: emotions.get(row[column].strip()) for row in rows}


plugin = CremaD
