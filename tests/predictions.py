"""Labelled clips of a synthetic corpus, and predictions of different quality for them."""

import numpy as np

from affuse.manifest import Clip, Manifest
from affuse.posteriors.posterior import Posterior, softmax

EMOTIONS = ("happy", "neutral", "sad")


def labelled_clips(n=240, seed=0):
    generator = np.random.default_rng(seed)
    emotion = generator.integers(0, 3, n)
    manifest = Manifest(
        Clip(
            f"c{i}",
            speaker=f"s{i % 12}",
            emotion=EMOTIONS[emotion[i]],
            fold=str(i % 12 % 4),
            valence=float(emotion[i] - 1),
        )
        for i in range(n)
    )
    return manifest, emotion


def predictions(emotion, strength, seed):
    generator = np.random.default_rng(seed)
    rows = softmax(strength * np.eye(3)[emotion] + generator.normal(size=(len(emotion), 3)))
    ids = tuple(f"c{i}" for i in range(len(emotion)))
    valence = emotion - 1 + generator.normal(size=len(emotion)) / strength
    return Posterior(ids, EMOTIONS, rows, {"valence": valence})
