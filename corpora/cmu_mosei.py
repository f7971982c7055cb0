"""CMU-MOSEI: opinions in front of a camera; sentiment and six emotions per segment.

Labels are in ``CMU_MOSEI_Labels.csd``: a segment ``<video>[<n>]`` has an interval and seven numbers,
sentiment (-3 to 3), then happy, sad, anger, surprise, disgust and fear (0 to 3 each; several may be
present). Media are whole videos, ``<video>.mp4``.
"""

import ast
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import ManifestError, check_known
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading, note
from ._csd import segments
from ._files import find_file, find_media

SEGMENT = re.compile(r"(.+)\[(\d+)\]")
N_LABELS = 7
FOLDS = {"standard_train_fold": "train", "standard_valid_fold": "validation", "standard_test_fold": "test"}


class CmuMosei(Corpus):
    """CMU-MOSEI: 23,000 segments of monologues, sentiment (as valence) and emotion.

    Parameters
    ----------
    protocol : str or None
        One of `protocols`; None selects the first.
    emotion : str
        Rule for the emotion of a segment: ``dominant`` takes the strongest of the six emotions and
        gives no label where none is present or two tie; ``present`` gives a label only where exactly
        one is present; ``none`` gives no label, which leaves sentiment.
    """

    info = CorpusInfo(
        licence="CMU-MOSEI terms; research use",
        citation="Zadeh, Liang, Poria, Cambria, Morency (2018). Multimodal Language Analysis in "
        "the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion Graph. ACL 2018",
        source="github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK; raw videos from its authors",
    )
    emotions = ("happy", "sad", "anger", "surprise", "disgust", "fear")
    protocols = {
        "standard": "the folds of videos of the SDK, read from its cmu_mosei_std_folds.py (put it "
        "anywhere below the root; it is parsed, never run)",
        "folds": "no split; segments of a video are kept together, --folds sets the number of folds",
    }
    names_speakers = False

    def __init__(self, *, protocol: str | None = None, emotion: str = "dominant") -> None:
        super().__init__(protocol=protocol)
        check_known("rule for the emotion", emotion, ("dominant", "present", "none"))
        self.emotion = emotion

    def published_counts(self) -> Mapping[str, int]:
        """Return the numbers of labelled segments that are usually reported."""
        counts = {"clips": 22856}
        if self.protocol == "standard":
            counts |= {"train clips": 16326, "validation clips": 1871, "test clips": 4659}
        return counts

    def read(self, root: Path) -> CorpusReading:
        """List the labelled segments that have video or audio."""
        splits = _splits(root) if self.protocol == "standard" else {}
        media = find_media(root)
        clips, absent, n_without_split, empty = [], Counter[str](), 0, []
        for name, labels, intervals in segments(find_file(root, "CMU_MOSEI_Labels.csd")):
            match = SEGMENT.fullmatch(name)
            if match is None or labels.shape != (1, N_LABELS) or intervals.shape != (1, 2):
                raise ManifestError(
                    f"CMU_MOSEI_Labels.csd: segment {name!r} has labels of shape {labels.shape} and intervals of "
                    f"shape {intervals.shape}. Expected a name '<video>[<n>]' and the shapes (1, 7) and (1, 2)."
                )
            video, number = match.groups()
            start, end = intervals[0]
            if video not in media:
                absent[video] += 1
            elif not 0 <= start < end:
                empty.append(name)
            elif splits and video not in splits:
                n_without_split += 1
            else:
                clips.append(
                    Clip(
                        id=f"{video}_{number}",
                        video=media[video].video,
                        audio=media[video].audio,
                        start=float(start),
                        end=float(end),
                        speaker=video,
                        split=splits.get(video),
                        emotion=self._emotion(labels[0, 1:]),
                        valence=float(labels[0, 0]),
                    )
                )
        n_unlabelled = sum(clip.emotion is None for clip in clips)
        notes = (
            "the column speaker holds the video, because the release does not say who speaks",
            *note(absent.total(), "segments of absent videos were left out", absent),
            *note(n_without_split, "segments of videos in none of the standard folds were left out"),
            *note(len(empty), "segments with an empty interval were left out", empty),
            *note(n_unlabelled, f"segments have no emotion under the rule {self.emotion!r}"),
        )
        return CorpusReading(Manifest(clips, name="cmu-mosei"), notes)

    def _emotion(self, strengths: np.ndarray) -> str | None:
        order = np.argsort(strengths)[::-1]
        first, second = strengths[order[0]], strengths[order[1]]
        clear = {"dominant": first > 0 and first > second, "present": first > 0 >= second}
        return self.emotions[order[0]] if clear.get(self.emotion) else None


def _splits(root: Path) -> dict[str, str]:
    """Return the split of each video from the file of folds of the SDK, which is parsed, not run."""
    path = find_file(root, "cmu_mosei_std_folds.py")
    splits: dict[str, str] = {}
    try:
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                split = FOLDS.get(statement.targets[0].id)
                if split:
                    splits |= dict.fromkeys(ast.literal_eval(statement.value), split)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ManifestError(f"{path} is not the list of folds of the SDK: {error}.") from None
    if set(splits.values()) != set(FOLDS.values()):
        raise ManifestError(f"{path} lacks some of the folds. Expected the lists {', '.join(FOLDS)}.")
    return splits


plugin = CmuMosei
