"""CMU-MOSEI: opinions in front of a camera; sentiment and six emotions a segment.

Labels stand in ``CMU_MOSEI_Labels.csd``, a segment ``<video>[<n>]`` with its interval and seven
numbers: sentiment (-3 to 3), then happy, sad, anger, surprise, disgust, fear (0 to 3 each, several
may be present). Media are whole videos, ``<video>.mp4``.
"""

import ast
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import ManifestError, UnknownName
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._csd import segments
from ._files import file_of, media, told

SEGMENT = re.compile(r"(.+)\[(\d+)\]")
N_LABELS = 7
FOLDS = {"standard_train_fold": "train", "standard_valid_fold": "validation", "standard_test_fold": "test"}


class CmuMosei(Corpus):
    """CMU-MOSEI: 23,000 segments of monologues, sentiment (as valence) and emotion.

    Parameters
    ----------
    protocol : str or None
    emotion : str
        ``dominant``: the strictly strongest of the six, not annotated where none is present or
        two tie; ``present``: only segments that show exactly one; ``none``: sentiment alone.
    """

    facts = CorpusInfo(
        licence="CMU-MOSEI terms; research use",
        citation="Zadeh, Liang, Poria, Cambria, Morency (2018). Multimodal Language Analysis in "
        "the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion Graph. ACL 2018",
        source="github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK; raw videos from its authors",
    )
    emotions = ("happy", "sad", "anger", "surprise", "disgust", "fear")
    protocols = {
        "standard": "the SDK's folds of videos, read from its cmu_mosei_std_folds.py (put it "
        "anywhere below the root; it is parsed, never run)",
        "folds": "no split; segments of a video are kept together, --folds says how many",
    }

    def __init__(self, *, protocol: str | None = None, emotion: str = "dominant") -> None:
        super().__init__(protocol=protocol)
        if emotion not in ("dominant", "present", "none"):
            raise UnknownName("rule for the emotion", emotion, ("dominant", "present", "none"))
        self.emotion = emotion

    def published(self) -> Mapping[str, int]:
        """Return the usual pack's counts of labelled segments."""
        counts = {"clips": 22856}
        if self.protocol == "standard":
            counts |= {"train clips": 16326, "validation clips": 1871, "test clips": 4659}
        return counts

    def read(self, root: Path) -> CorpusReading:
        """List the labelled segments whose video or sound is there."""
        splits = _splits(root) if self.protocol == "standard" else {}
        files = media(root)
        clips, absent, loose, untimed, bare = [], Counter[str](), 0, [], 0
        for name, labels, intervals in segments(file_of(root, "CMU_MOSEI_Labels.csd")):
            match = SEGMENT.fullmatch(name)
            if match is None or labels.shape != (1, N_LABELS) or intervals.shape != (1, 2):
                raise ManifestError(
                    f"CMU_MOSEI_Labels.csd: segment {name!r} has labels {labels.shape} and "
                    f"intervals {intervals.shape}; wanted '<video>[<n>]', (1, 7), (1, 2)"
                )
            video, number = match.groups()
            start, end = intervals[0]
            if video not in files:
                absent[video] += 1
                continue
            if not 0 <= start < end:
                untimed.append(name)
                continue
            if splits and video not in splits:
                loose += 1
                continue
            emotion = self._emotion(labels[0, 1:])
            bare += emotion is None
            clips.append(
                Clip(
                    id=f"{video}_{number}",
                    video=next(iter(files[video].video), None),
                    audio=next(iter(files[video].audio), None),
                    start=float(start),
                    end=float(end),
                    speaker=video,
                    split=splits.get(video),
                    emotion=emotion,
                    valence=float(labels[0, 0]),
                )
            )
        notes = (
            "the column speaker holds the video: the release does not say who speaks",
            *told(absent.total(), "segments of videos that are not there, left out", absent),
            *told(loose, "segments of videos in none of the standard folds, left out"),
            *told(len(untimed), "segments whose interval is empty, left out", untimed),
            *told(bare, f"segments carry no emotion under the rule {self.emotion!r}"),
        )
        return CorpusReading(Manifest(clips, name="cmu-mosei"), notes)

    def _emotion(self, strengths: np.ndarray) -> str | None:
        order = np.argsort(strengths)[::-1]
        first, second = strengths[order[0]], strengths[order[1]]
        clear = {"dominant": first > 0 and first > second, "present": first > 0 >= second}
        return self.emotions[order[0]] if clear.get(self.emotion) else None

    def counted(self, manifest: Manifest) -> Mapping[str, int]:
        """Count clips and splits; the speakers' column holds videos."""
        return {k: n for k, n in super().counted(manifest).items() if k != "speakers"}


def _splits(root: Path) -> dict[str, str]:
    """Return the split of each video, from the SDK's file of folds, parsed as literals."""
    path = file_of(root, "cmu_mosei_std_folds.py")
    splits: dict[str, str] = {}
    try:
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        for statement in statements:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                split = FOLDS.get(statement.targets[0].id)
                if split:
                    splits |= dict.fromkeys(ast.literal_eval(statement.value), split)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ManifestError(f"{path} is not the SDK's list of folds: {error}") from None
    if set(splits.values()) != set(FOLDS.values()):
        raise ManifestError(f"{path}: wanted the lists {', '.join(FOLDS)}")
    return splits


plugin = CmuMosei
