"""IEMOCAP: ten actors in five dyadic sessions, scripted and improvised.

Labels stand in ``Session*/dialog/EmoEvaluation/*.txt``, a line an utterance:
``[start - end] <tab> name <tab> emotion <tab> [valence, arousal, dominance]``.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import ManifestError, UnknownName
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._files import folder_of, told

LINE = re.compile(
    r"\[([\d.]+) - ([\d.]+)\]\t((Ses0\d)[FM]_\w+?_([FM])\w+)\t(\w{3})"
    r"\t\[([\d.]+), ([\d.]+), [\d.]+\]"
)
FOUR = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
SIX = {"ang": "angry", "hap": "happy", "exc": "excited", "neu": "neutral", "sad": "sad", "fru": "frustrated"}
ALL = SIX | {"fea": "fearful", "sur": "surprised", "dis": "disgust", "oth": "other"}
CLASSES = {"four": FOUR, "six": SIX, "all": ALL}


class Iemocap(Corpus):
    """IEMOCAP: 10 actors, 5 sessions, emotion, valence and arousal an utterance.

    Parameters
    ----------
    protocol : str or None
    classes : str
        ``four`` (angry, happy with excited, neutral, sad; all others left out), ``six``, or
        ``all``, where utterances without a majority (xxx) stay, not annotated.
    """

    facts = CorpusInfo(
        licence="IEMOCAP release form; research use",
        citation="Busso et al. (2008). IEMOCAP: Interactive emotional dyadic motion capture "
        "database. Language Resources and Evaluation 42(4)",
        source="sail.usc.edu/iemocap, after signing the release form",
    )
    emotions = ("angry", "happy", "excited", "neutral", "sad", "frustrated", "fearful", "surprised", "disgust", "other")
    protocols = {"sessions": "five folds, one session held out each; both its speakers are unseen"}

    def __init__(self, *, protocol: str | None = None, classes: str = "four") -> None:
        super().__init__(protocol=protocol)
        if classes not in CLASSES:
            raise UnknownName("set of classes", classes, CLASSES)
        self.classes = classes

    def published(self) -> Mapping[str, int]:
        """Return the counts that the field reports."""
        four = {"clips": 5531, "speakers": 10, "angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084}
        six = {
            "clips": 7380,
            "speakers": 10,
            "angry": 1103,
            "happy": 595,
            "excited": 1041,
            "neutral": 1708,
            "sad": 1084,
            "frustrated": 1849,
        }
        return {"four": four, "six": six, "all": {"clips": 10039, "speakers": 10}}[self.classes]

    def read(self, root: Path) -> CorpusReading:
        """List the utterances: their own sound file, or a stretch of the session's video."""
        root = root if (root / "Session1").is_dir() else folder_of(root, "IEMOCAP_full_release")
        clips, missing, n_other = [], [], 0
        words = CLASSES[self.classes]
        for session in sorted(root.glob("Session[1-5]")):
            evaluations = folder_of(session, "dialog/EmoEvaluation")
            for path in sorted(evaluations.glob("Ses*.txt")):
                for match in LINE.finditer(path.read_text(encoding="utf-8", errors="replace")):
                    if match[6] not in words and self.classes != "all":
                        n_other += 1
                        continue
                    clip = _clip(session, path.stem, match, words.get(match[6]))
                    clips.append(clip)
                    missing += [clip.id] if clip.video is None and clip.audio is None else []
        if not clips:
            raise ManifestError(
                f"{root}: no labelled line in Session*/dialog/EmoEvaluation/*.txt; wanted "
                "[start - end] name emotion [valence, arousal, dominance], tabs between"
            )
        with_picture = sum(c.video is not None for c in clips)
        notes = (
            *told(n_other, f"utterances of other classes left out (classes = {self.classes})"),
            *told(len(missing), "utterances have neither sound nor picture, left out", missing),
            *told(
                with_picture,
                "utterances are stretches of a video that shows both actors of "
                "the session side by side; its largest face may be the listener's",
            ),
        )
        gone = set(missing)
        kept = Manifest((c for c in clips if c.id not in gone), name="iemocap")
        return CorpusReading(kept, notes)


def _clip(session: Path, dialog: str, match: re.Match[str], emotion: str | None) -> Clip:
    start, end, name, prefix, gender, _, valence, arousal = match.groups()
    video = session / "dialog" / "avi" / "DivX" / f"{dialog}.avi"
    sound = session / "dialog" / "wav" / f"{dialog}.wav"
    sentence = session / "sentences" / "wav" / dialog / f"{name}.wav"
    # Start and end count in the dialogue's files, never in the sentence's own.
    stretch = video.is_file() or (sound.is_file() and not sentence.is_file())
    whole = sound if sound.is_file() else None
    return Clip(
        id=name,
        video=video if video.is_file() else None,
        audio=whole if stretch else (sentence if sentence.is_file() else None),
        start=float(start) if stretch else None,
        end=float(end) if stretch else None,
        speaker=f"{prefix}{gender}",
        fold=session.name.removeprefix("Session"),
        emotion=emotion,
        valence=float(valence),
        arousal=float(arousal),
    )


plugin = Iemocap
