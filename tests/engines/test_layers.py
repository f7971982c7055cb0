"""Layers chosen in a request are slices of the hidden states of the reference implementation."""

import numpy as np
import pytest
import torch

from affuse.cache.store import FeatureStore
from affuse.corpora._folder import scan
from affuse.engines._extraction import extract
from affuse.extractors._transformers import transformers
from affuse.media.inputs import Sound, Source
from affuse.media.read import read

from ..checkpoints import speech
from ..media_files import write_clip

CHOICES = {
    "layers=last": lambda h: h[-1],
    "layers=-2": lambda h: h[-2],
    "layers=0": lambda h: h[0],
    "layers=-3:-1,how=sum": lambda h: h[-3:].sum(0),
    "layers=-3:-1,how=mean": lambda h: h[-3:].mean(0),
    "layers=0+-1": lambda h: h[[0, -1]].transpose(0, 1),
    "layers=all,pool=none": lambda h: h.transpose(0, 1),
    "layers=all": lambda h: h.mean(1)[None],
}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    folder = speech(tmp_path_factory.mktemp("model"), "Hubert", large=True)
    clips = tmp_path_factory.mktemp("clips")
    write_clip(clips / "a.mp4", seconds=0.7, size=(64, 48))
    store = FeatureStore(tmp_path_factory.mktemp("features"))
    requests = [f"wav2vec2:{folder},{choice},store_dtype=float32" for choice in CHOICES]
    report = extract(scan(clips), requests, store)
    return folder, clips / "a.mp4", store, dict(zip(CHOICES, report.keys.values(), strict=True))


@pytest.fixture(scope="module")
def states(extracted):
    """Hidden states of the reference on the same samples, shape (layers, time, dim)."""
    folder, clip, _, _ = extracted
    library = transformers()
    (media,), _ = read(Source(clip, None), [Sound()])
    processor = library.AutoFeatureExtractor.from_pretrained(folder)
    model = library.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        inputs = processor(media.values, sampling_rate=16_000, return_tensors="pt")
        found = model(**inputs, output_hidden_states=True).hidden_states
    return torch.cat(found)


@pytest.mark.parametrize("choice", CHOICES)
def test_choice_of_layers(extracted, states, choice):
    _, _, store, keys = extracted
    found = store.read(keys[choice], "a").values
    expected = CHOICES[choice](states).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
