"""The contract that every encoder keeps, whatever its family."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from affuse import plugins
from affuse.errors import MediaError
from affuse.extractors._encoder import Media, pad_sequences
from affuse.media.inputs import Sound
from affuse.tensors import Stream

from ..checkpoints import frame_media, pictures, voice

FAMILIES = plugins.names("encoder")
OPTIONAL = {"egemaps": "opensmile", "onnx": "onnxruntime"}
OPTIONS = {
    "whisper": [{}, {"window": "exact"}],
    "logmel": [{}, {"kind": "mfcc", "deltas": True}],
    "image": [{}, {"output": "mean"}, {"output": "projected"}],
    "clip": [{}, {"output": "cls"}],
    "videomae": [{}, {"hop": 6}],
    "egemaps": [{}, {"level": "lld"}],
}
EACH = [(f, options) for f in FAMILIES for options in OPTIONS.get(f, [{}])]


@pytest.fixture(scope="module", params=EACH, ids=lambda e: "-".join([e[0], *map(str, e[1].values())]))
def encoder(request):
    family, options = request.param
    if family in OPTIONAL:
        pytest.importorskip(OPTIONAL[family])
    return plugins.find("encoder", family).untrained(**options).eval()


def clip(encoder, seconds: float) -> Media:
    if isinstance(encoder.inputs, Sound):
        return voice(seconds)
    return frame_media(pictures(round(seconds * 5), seed=int(seconds * 10)), encoder.inputs)


def batch(encoder, *seconds: float, padding: int = 0, junk: float = 0.0) -> Stream:
    prepared = [encoder.prepare(clip(encoder, s)) for s in seconds]
    media = pad_sequences([p.values for p in prepared], [p.times for p in prepared])
    n, longest = media.mask.shape
    values = torch.full((n, longest + padding, *media.values.shape[2:]), junk)
    mask = torch.zeros(n, longest + padding, dtype=torch.bool)
    times = torch.full((n, longest + padding), torch.nan)
    mask[:, :longest], times[:, :longest] = media.mask, media.times
    values[mask] = media.values[media.mask]
    return Stream(values, mask, times)


def test_layers_have_the_documented_shape(encoder):
    with torch.no_grad():
        layers = encoder(batch(encoder, 1.0, 0.6))
    assert len(layers) == encoder.n_layers
    for layer in layers:
        assert layer.values.shape == (*layer.mask.shape, encoder.dim)
        assert layer.times.shape == layer.mask.shape
        assert layer.values[layer.mask].isfinite().all()
    clock = layers[0].times[0][layers[0].mask[0]]
    assert (clock.diff() > 0).all() and 0 <= clock[0] and clock[-1] <= 1.05
    if encoder.rate:
        steps = int(layers[0].mask[0].sum())
        scale = encoder.inputs.fps / 5 if not isinstance(encoder.inputs, Sound) else 1
        assert steps * scale == pytest.approx(encoder.rate, rel=0.07, abs=1)


def test_padding_and_other_clips_do_not_change_features(encoder):
    with torch.no_grad():
        alone = encoder(batch(encoder, 0.6))
        among = encoder(batch(encoder, 0.6, 1.0, 0.6, padding=700, junk=torch.nan))
    for one, other in zip(alone, among, strict=True):
        n = int(one.mask.sum())
        assert other.mask.sum(1).tolist()[::2] == [n, n]
        scale = one.values.abs().max().clamp(min=1)
        for row in (0, 2):
            difference = (other.values[row, :n] - one.values[0, :n]).abs().max()
            assert difference / scale < 1e-5


def test_a_clip_without_media_is_masked(encoder):
    media = batch(encoder, 1.0, 0.6)
    media.mask[1] = False
    with torch.no_grad():
        layers = encoder(media)
    assert not layers[-1].mask[1].any()
    assert layers[-1].mask[0].any()


def test_empty_media_raise_too_short(encoder):
    empty = np.zeros(0, np.float32)
    if not isinstance(encoder.inputs, Sound):
        empty = np.zeros((0, 32, 32, 3), np.uint8)
    with pytest.raises(MediaError, match="too_short"):
        encoder.prepare(Media(empty, np.empty(0), 0.0))


def test_media_may_be_read_only(encoder):
    media = clip(encoder, 0.6)
    media.values.flags.writeable = False
    assert encoder.prepare(media).values.isfinite().all()


def test_identity_is_json_and_names_the_family(encoder):
    identity = encoder.identity()
    assert json.loads(json.dumps(identity))["family"] in FAMILIES
    if not isinstance(encoder.inputs, Sound):
        other = type(encoder).untrained(frames=3, crop="face")
        assert other.identity() != identity
        assert (other.rate, other.inputs.crop) == (None, "face")


def test_gradients_reach_the_weights(encoder):
    weights = list(encoder.parameters())
    if not weights:
        pytest.skip("no weights that torch holds")
    encoder(batch(encoder, 1.0))[-1].values.square().sum().backward()
    assert any(w.grad is not None and w.grad.abs().sum() > 0 for w in weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_untrained_weights_follow_from_the_seed(family):
    if family in OPTIONAL:
        pytest.importorskip(OPTIONAL[family])
    plugin = plugins.find("encoder", family)
    before = torch.random.get_rng_state()
    one, same, other = (plugin.untrained(seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.identity() == same.identity()
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    if list(one.parameters()):
        assert one.identity() != other.identity()
        assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert {"seed", *plugins.options(plugin.from_pretrained)} == set(plugins.options(plugin.untrained))
    assert inspect.getdoc(plugin).partition("\n")[0].endswith(".")


def test_listing_encoders_imports_no_model_library():
    code = (
        "import sys; from affuse import plugins; rows = plugins.list_encoders();"
        "heavy = {'transformers', 'open_clip', 'whisper', 'onnxruntime', 'opensmile', 'timm',"
        "'torchvision', 'librosa'} & set(sys.modules); assert not heavy, heavy;"
        "assert len({tuple(r) for r in rows}) == 1, {tuple(r) for r in rows}; print(len(rows))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 25


def test_the_encoder_in_the_documentation_runs(tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "encoders.md"
    code = page.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    (tmp_path / "mine_of_the_docs.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = plugins.find("encoder", "mine_of_the_docs.Loudness").from_pretrained()
    (stream,) = found(batch(found, 0.65, 0.4, padding=50, junk=torch.nan))
    assert stream.mask.sum(1).tolist() == [6, 4]
    assert stream.values[stream.mask].isfinite().all()
    assert stream.times[0, 0] == pytest.approx(0.05, abs=1e-3)


def test_the_documentation_lists_every_option():
    page = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for family, row in rows.items():
        options = set(plugins.options(plugins.find("encoder", family).from_pretrained))
        missing = [o for o in options - {"allow_pickle"} if f"`{o}" not in row]
        assert not missing, (family, missing)
