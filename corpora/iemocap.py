"""IEMOCAP: ten actors in five dyadic sessions, scripted and improvised.

Labels are in ``Session*/dialog/EmoEvaluation/*.txt``, with one line per utterance:
``[start - end] <tab> name <tab> emotion <tab> [valence, arousal, dominance]``.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import ManifestError, check_known
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading, note
from ._files import find_folder

LINE = re.compile(
    r"\[([\d.]+) - ([\d.]+)\]\t((Ses0\d)[FM]_\w+?_([FM])\w+)\t(\w{3})"
    r"\t\[([\d.]+), ([\d.]+), [\d.]+\]"
)
FOUR = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
SIX = {"ang": "angry", "hap": "happy", "exc": "excited", "neu": "neutral", "sad": "sad", "fru": "frustrated"}
ALL = SIX | {"fea": "fearful", "sur": "surprised", "dis": "disgust", "oth": "other"}
CLASSES = {"four": FOUR, "six": SIX, "all": ALL}
PUBLISHED = {
    "four": {"clips": 5531, "speakers": 10, "angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084},
    "six": {
        "clips": 7380,
        "speakers": 10,
        "angry": 1103,
        "happy": 595,
        "excited": 1041,
        "neutral": 1708,
        "sad": 1084,
        "frustrated": 1849,
    },
    "all": {"clips": 10039, "speakers": 10},
}


class Iemocap(Corpus):
    """IEMOCAP: 10 actors, 5 sessions, emotion, valence and arousal per utterance.

    Parameters
    ----------
    protocol : str or None
        One of `protocols`; None selects the first.
    classes : str
        ``four`` keeps angry, happy (merged with excited), neutral and sad, and leaves out all other
        utterances; ``six`` keeps six emotions; ``all`` keeps every utterance, and those without a
        majority (xxx) have no label.
    """

    info = CorpusInfo(
        licence="IEMOCAP release form; research use",
        citation="Busso et al. (2008). IEMOCAP: Interactive emotional dyadic motion capture "
        "database. Language Resources and Evaluation 42(4)",
        source="sail.usc.edu/iemocap, after signing the release form",
    )
    emotions = ("angry", "happy", "excited", "neutral", "sad", "frustrated", "fearful", "surprised", "disgust", "other")
    protocols = {"sessions": "five folds, each of which holds out one session with both of its speakers"}

    def __init__(self, *, protocol: str | None = None, classes: str = "four") -> None:
        super().__init__(protocol=protocol)
        check_known("set of classes", classes, CLASSES)
        self.classes = classes

    def published_counts(self) -> Mapping[str, int]:
        """Return the numbers that publications report."""
        return PUBLISHED[self.classes]

    def read(self, root: Path) -> CorpusReading:
        """List the utterances: audio files of their own, or segments of the video of the session."""
        root = root if (root / "Session1").is_dir() else find_folder(root, "IEMOCAP_full_release")
        clips, missing, n_other = [], [], 0
        emotions = CLASSES[self.classes]
        for session in sorted(root.glob("Session[1-5]")):
            evaluations = find_folder(session, "dialog/EmoEvaluation")
            for path in sorted(evaluations.glob("Ses*.txt")):
                for match in LINE.finditer(path.read_text(encoding="utf-8", errors="replace")):
                    if match[6] not in emotions and self.classes != "all":
                        n_other += 1
                        continue
                    clip = _clip(session, path.stem, match, emotions.get(match[6]))
                    if clip.video is None and clip.audio is None:
                        missing.append(clip.id)
                    else:
                        clips.append(clip)
        if not clips and not missing:
            raise ManifestError(
                f"{root} has no labelled line in Session*/dialog/EmoEvaluation/*.txt. Expected lines such as "
                "[start - end] name emotion [valence, arousal, dominance], separated by tabs."
            )
        with_video = sum(c.video is not None for c in clips)
        notes = (
            *note(n_other, f"utterances of other classes were left out (classes={self.classes})"),
            *note(len(missing), "utterances have neither audio nor video and were left out", missing),
            *note(
                with_video,
                "utterances are segments of a video that shows both actors of the session side by side; "
                "the largest face may be the listener's",
            ),
        )
        return CorpusReading(Manifest(clips, name="iemocap"), notes)


def _clip(session: Path, dialog: str, match: re.Match[str], emotion: str | None) -> Clip:
    start, end, name, prefix, gender, _, valence, arousal = match.groups()
    video = _existing(session / "dialog" / "avi" / "DivX" / f"{dialog}.avi")
    dialog_audio = _existing(session / "dialog" / "wav" / f"{dialog}.wav")
    sentence_audio = _existing(session / "sentences" / "wav" / dialog / f"{name}.wav")
    # Start and end refer to the files of the dialogue, not to the file of the sentence.
    is_segment = video is not None or (dialog_audio is not None and sentence_audio is None)
    return Clip(
        id=name,
        video=video,
        audio=dialog_audio if is_segment else sentence_audio,
        start=float(start) if is_segment else None,
        end=float(end) if is_segment else None,
        speaker=f"{prefix}{gender}",
        fold=session.name.removeprefix("Session"),
        emotion=emotion,
        valence=float(valence),
        arousal=float(arousal),
    )


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


plugin = Iemocap
