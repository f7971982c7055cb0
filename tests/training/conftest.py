"""A small synthetic corpus of features with recognisable emotions, and settings that train on it in a second."""

import numpy as np
import pytest
import torch

from affuse.cache.store import Features, FeatureStore, Row
from affuse.manifest import Clip, Manifest

torch.set_num_threads(1)
EMOTIONS = ("angry", "happy", "sad")


def make(folder, *, n_speakers=6, n_repetitions=3, layers=None, lacking=(), valence=True, seed=0):
    """Write features of two modalities and return manifest and store.

    The audio features distinguish the first emotion from the others, and the visual features the last one. `lacking`
    lists pairs of clip and modality whose extraction failed.
    """
    generator = np.random.default_rng(seed)
    clips, rows = [], {"audio": [], "visual": []}
    for s in range(n_speakers):
        for e, emotion in enumerate(EMOTIONS):
            for r in range(n_repetitions):
                name = f"s{s}-{emotion}-{r}"
                value = float(e - 1) if valence else None
                clips.append(Clip(name, speaker=f"s{s}", emotion=emotion, valence=value))
                signs = {"audio": (e == 0, 8), "visual": (e == 2, 6)}
                for modality, (sign, dim) in signs.items():
                    n = int(generator.integers(3, 12))
                    shape = (n, dim) if layers is None else (n, layers, dim)
                    values = generator.normal(size=shape) + 2 * (sign - 0.5) + 0.5 * s
                    features = Features(values.astype(np.float32), np.arange(n) / 4)
                    if (name, modality) in lacking:
                        row = Row(name, code="no_stream", reason="there is none"), None
                    else:
                        row = Row(name, n_frames=n), features
                    rows[modality].append(row)
    store = FeatureStore(folder)
    for modality, dim in (("audio", 8), ("visual", 6)):
        facts = {"name": f"made-{modality}", "modality": modality, "dim": dim, "dtype": "float16"}
        if layers is not None:
            facts["n_layers"] = layers
        store.write(f"made-{modality}-0", "0", facts, rows[modality])
    return Manifest(clips), FeatureStore(folder)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Return a manifest of 54 clips of six speakers, and its store."""
    return make(tmp_path_factory.mktemp("features"))


@pytest.fixture
def making():
    """Return the function that makes such a corpus."""
    return make


@pytest.fixture(scope="session")
def quick():
    """Return settings with which a recipe trains within a second."""
    return (
        "training.epochs=12",
        "training.batch=8",
        "training.learning_rate=3e-3",
        "fusion.gather_dropout=0.1",
        "fusion.dropout=0.3",
    )
