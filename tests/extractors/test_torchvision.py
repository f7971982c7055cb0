"""Image encoders run with a torchvision that matches torch, with one that does not, and without it."""

import importlib.util
import subprocess
import sys

import pytest

ABSENT = """
import importlib.util, sys
whole = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name.partition(".")[0] == "torchvision" else whole(name, *rest))
sys.modules["torchvision"] = None
"""
ENCODE = """
import numpy as np, torch
from affuse import plugins
from affuse.extractors._encoder import Media, pad_sequences
for family in {families}:
    encoder = plugins.find("encoder", family).untrained()
    side = encoder.inputs.crop_size
    frames = np.zeros((2, side, side, 3), np.uint8)
    media = encoder.prepare(Media(frames, np.array([0.1, 0.3]), 0.4))
    with torch.no_grad():
        assert encoder(pad_sequences([media.values], [media.times]))[-1].values.isfinite().all()
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_image_models_of_transformers_run_without_torchvision():
    run(ABSENT + ENCODE.format(families=["image"]))


@pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="torchvision is absent")
def test_torchvision_and_open_clip_are_importable_with_any_torch():
    run(
        "from affuse.extractors._torchvision import declare_missing_operators as f; f(); f();"
        "import torchvision, timm, open_clip" + ENCODE.format(families=["clip"])
    )
