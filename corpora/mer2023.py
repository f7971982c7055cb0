"""MER 2023: Mandarin clips from films and series in six emotions, most with a valence.

Labels stand in ``train-label.csv`` and ``test{1,2,3}-label.csv`` (name, discrete, valence), media
in folders ``train`` and ``test{1,2,3}``: test1 is MULTI, test2 NOISE, test3 SEMI, which has no
valence and tens of thousands of clips without labels.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import ManifestError
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._files import Files, folder_of, media, table, told

N_FOLDS = 5
PARTS = {"multi": "test1", "noise": "test2", "semi": "test3"}
TRAIN = (871, 822, 689, 383, 462, 146)
TESTS = {"multi": (88, 105, 93, 50, 57, 18), "noise": (123, 98, 87, 40, 52, 12), "semi": (166, 183, 169, 257, 45, 14)}
ABSENT = -10.0


class Mer2023(Corpus):
    """MER 2023: 6 emotions and valence, the challenge's train and test parts.

    Parameters
    ----------
    protocol : str or None
        Which test part is under test.
    seed : int
        Of the random permutation that deals the training part into five folds, the challenge's
        own way (last fold takes the rest); clips carry no speakers.
    """

    facts = CorpusInfo(
        licence="end-user licence agreement of MER 2023; research use",
        citation="Lian et al. (2023). MER 2023: Multi-label Learning, Modality Robustness, and "
        "Semi-Supervised Learning. ACM Multimedia 2023",
        source="huggingface.co/datasets/MERChallenge/MER2023, after signing the agreement",
    )
    emotions = ("neutral", "angry", "happy", "sad", "worried", "surprise")
    protocols = {
        "multi": "MER-MULTI under test: emotion and valence",
        "noise": "MER-NOISE under test: the same with sound and picture corrupted",
        "semi": "MER-SEMI under test: emotion; its unlabelled clips are listed without a split",
    }

    def __init__(self, *, protocol: str | None = None, seed: int = 100) -> None:
        super().__init__(protocol=protocol)
        self.seed = int(seed)

    def published(self) -> Mapping[str, int]:
        """Return the counts of the labelled clips."""
        test = TESTS[self.protocol or "multi"]
        emotions = {e: a + b for e, a, b in zip(self.emotions, TRAIN, test, strict=True)}
        return {"train clips": 3373, "test clips": sum(test), **emotions}

    def read(self, root: Path) -> CorpusReading:
        """List the training part and the test part that the protocol names."""
        if next(root.rglob("label-6way.npz"), None) and not (root / "train-label.csv").is_file():
            raise ManifestError(
                f"{root} holds label-6way.npz, which is pickled and could run any code; wanted "
                "the release's train-label.csv and test1-label.csv to test3-label.csv"
            )
        part = PARTS[self.protocol or "multi"]
        train, gone = self._labelled(root, "train", "train")
        test, gone_test = self._labelled(root, part, "test")
        order = np.random.default_rng(self.seed).permutation(len(train))
        size = max(1, len(train) // N_FOLDS)
        dealt = [
            dataclasses.replace(train[i], fold=str(min(place // size, N_FOLDS - 1))) for place, i in enumerate(order)
        ]
        clips = sorted(dealt, key=lambda c: c.id) + test
        loose = self._unlabelled(root, {c.id for c in clips}) if part == "test3" else []
        notes = (
            *told(len(gone) + len(gone_test), "labelled clips have no media, left out", gone + gone_test),
            *told(len(loose), "clips of SEMI carry no label"),
            "the release names no speakers: folds are random, as the challenge's own are",
        )
        return CorpusReading(Manifest(clips + loose, name=f"mer2023-{self.protocol}"), notes)

    def _labelled(self, root: Path, part: str, split: str) -> tuple[list[Clip], list[str]]:
        files = media(folder_of(root, part))
        clips, absent = [], []
        labels = root / f"{part}-label.csv"
        if not labels.is_file():
            raise ManifestError(f"{root} holds no {labels.name}; wanted name,discrete,valence")
        for row in table(labels, ["name", "discrete"]):
            name, emotion = row["name"], row["discrete"]
            if emotion not in self.emotions:
                raise ManifestError(f"{labels}: emotion {emotion!r} of {name} is not MER 2023's")
            if name not in files:
                absent.append(name)
                continue
            valence = float(row["valence"]) if row.get("valence") else None
            clips.append(_clip(name, files[name], split, emotion, None if valence == ABSENT else valence))
        if not clips:
            raise ManifestError(f"{root / part} holds no media of the clips of {labels.name}")
        return clips, absent

    def _unlabelled(self, root: Path, known: set[str]) -> list[Clip]:
        files = media(folder_of(root, "test3"))
        return [_clip(n, f, None, None, None) for n, f in files.items() if n not in known]

    def counted(self, manifest: Manifest) -> Mapping[str, int]:
        """Count the labelled clips."""
        return super().counted(Manifest(c for c in manifest if c.emotion))


def _clip(name: str, files: Files, split: str | None, emotion: str | None, valence: float | None) -> Clip:
    video, audio = (next(iter(paths), None) for paths in files)
    return Clip(id=name, video=video, audio=audio, split=split, emotion=emotion, valence=valence)


plugin = Mer2023
