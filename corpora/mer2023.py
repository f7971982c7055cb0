"""MER 2023: Mandarin clips of films and series with six emotions, most of them with valence.

Labels are in ``train-label.csv`` and ``test{1,2,3}-label.csv`` (name, discrete, valence), media in the
folders ``train`` and ``test{1,2,3}``: test1 is MULTI, test2 NOISE, and test3 SEMI, which has no
valence and tens of thousands of clips without labels.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import ManifestError
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading, consecutive_folds, note
from ._files import Files, find_folder, find_media, read_table

N_FOLDS = 5
PARTS = {"multi": "test1", "noise": "test2", "semi": "test3"}
TRAIN = (871, 822, 689, 383, 462, 146)
TESTS = {"multi": (88, 105, 93, 50, 57, 18), "noise": (123, 98, 87, 40, 52, 12), "semi": (166, 183, 169, 257, 45, 14)}
MISSING_VALENCE = -10.0


class Mer2023(Corpus):
    """MER 2023: 6 emotions and valence, the challenge's train and test parts.

    Parameters
    ----------
    protocol : str or None
        Test part: one of `protocols`; None selects the first.
    seed : int
        Seed of the random permutation that divides the training part into five folds, in the way of
        the challenge's baseline (the last fold takes the remainder).
    """

    info = CorpusInfo(
        licence="end-user licence agreement of MER 2023; research use",
        citation="Lian et al. (2023). MER 2023: Multi-label Learning, Modality Robustness, and "
        "Semi-Supervised Learning. ACM Multimedia 2023",
        source="huggingface.co/datasets/MERChallenge/MER2023, after signing the agreement",
    )
    emotions = ("neutral", "angry", "happy", "sad", "worried", "surprise")
    protocols = {
        "multi": "test part MER-MULTI: emotion and valence",
        "noise": "test part MER-NOISE: emotion and valence of corrupted audio and video",
        "semi": "test part MER-SEMI: emotion; its unlabelled clips are listed without a split",
    }

    def __init__(self, *, protocol: str | None = None, seed: int = 100) -> None:
        super().__init__(protocol=protocol)
        self.seed = int(seed)

    def published_counts(self) -> Mapping[str, int]:
        """Return the published numbers of labelled clips."""
        test = TESTS[self.protocol or "multi"]
        emotions = {e: a + b for e, a, b in zip(self.emotions, TRAIN, test, strict=True)}
        return {"train clips": 3373, "test clips": sum(test), **emotions}

    def read(self, root: Path) -> CorpusReading:
        """List the training part and the test part of the protocol."""
        if next(root.rglob("label-6way.npz"), None) and not (root / "train-label.csv").is_file():
            raise ManifestError(
                f"{root} holds label-6way.npz, a pickled file that could run any code. Expected train-label.csv "
                "and test1-label.csv to test3-label.csv of the release."
            )
        part = PARTS[self.protocol or "multi"]
        train, absent = self._labelled(root, "train", "train")
        test, absent_in_test = self._labelled(root, part, "test")
        order = np.random.default_rng(self.seed).permutation(len(train))
        folds = consecutive_folds((train[i].id for i in order), N_FOLDS)
        clips = [dataclasses.replace(c, fold=folds[c.id]) for c in sorted(train, key=lambda c: c.id)] + test
        known = {c.id for c in clips}
        media = find_media(root / part) if part == "test3" else {}
        unlabelled = [_clip(name, files) for name, files in media.items() if name not in known]
        notes = (
            *note(
                len(absent) + len(absent_in_test),
                "labelled clips have no media and were left out",
                absent + absent_in_test,
            ),
            *note(len(unlabelled), "clips of SEMI have no label"),
            "the release names no speakers; folds are random, as in the challenge's baseline",
        )
        return CorpusReading(Manifest(clips + unlabelled, name=f"mer2023-{self.protocol}"), notes)

    def _labelled(self, root: Path, part: str, split: str) -> tuple[list[Clip], list[str]]:
        """Return the labelled clips of a part, and the names of those without media."""
        files = find_media(find_folder(root, part))
        clips, absent = [], []
        labels = root / f"{part}-label.csv"
        if not labels.is_file():
            raise ManifestError(f"{root} holds no {labels.name}. Expected a table of name, discrete and valence.")
        for row in read_table(labels, ["name", "discrete"]):
            name, emotion = row["name"], row["discrete"]
            if emotion not in self.emotions:
                raise ManifestError(
                    f"{labels}: {name} has the emotion {emotion!r}; expected one of {', '.join(self.emotions)}."
                )
            if name not in files:
                absent.append(name)
                continue
            valence = float(row["valence"]) if row.get("valence") else MISSING_VALENCE
            clip = _clip(name, files[name])
            known = None if valence == MISSING_VALENCE else valence
            clips.append(dataclasses.replace(clip, split=split, emotion=emotion, valence=known))
        if not clips:
            raise ManifestError(f"{root / part} holds no media of the clips in {labels.name}.")
        return clips, absent

    def count(self, manifest: Manifest) -> Mapping[str, int]:
        """Return the numbers of labelled clips."""
        return super().count(Manifest(c for c in manifest if c.emotion))


def _clip(name: str, files: Files) -> Clip:
    return Clip(id=name, video=files.video, audio=files.audio)


plugin = Mer2023
