"""The model: saving and loading, mixture of layers, refusal of files that are not models."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from affuse.errors import RecipeError, StoreError, UnknownName
from affuse.tensors import Stream
from affuse.training.dataset import gather
from affuse.training.model import EmotionModel, InputNorm, read_tensors
from affuse.training.streams import choose_streams


def built(shapes=None, **options):
    return EmotionModel.build(
        shapes or {"audio": (8,), "visual": (6,)},
        ("afg", {"width": 8, "hidden": 8}),
        ("joint", {}),
        emotions=("a", "b"),
        dimensions=("valence",),
        **options,
    ).eval()


def streams(**shapes):
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, shape in shapes.items():
        mask = torch.tensor([[True] * 4, [True, True, False, False]])
        values = torch.randn(2, 4, *shape, generator=generator)
        found[name] = Stream(values, mask, torch.arange(4.0).repeat(2, 1))
    return found


def test_saved_model_predicts_the_same(tmp_path):
    model, batch = built(), streams(audio=(8,), visual=(6,))
    model.front[0].standardise(np.full(8, 2.0, np.float32), np.full(8, 3.0, np.float32))
    model.save(tmp_path / "m.safetensors")
    again = EmotionModel.load(tmp_path / "m.safetensors")
    assert torch.equal(model(batch).logits, again(batch).logits)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_content_of_padding_has_no_effect():
    model, batch = built(), streams(audio=(8,), visual=(6,))
    spoilt = {name: s._replace(values=s.values.masked_fill(~s.mask[..., None], torch.nan)) for name, s in batch.items()}
    assert torch.equal(model(batch).logits, model(spoilt).logits)


def test_layers_are_mixed_with_trained_weights_or_one_is_selected():
    stream = streams(audio=(3, 5))["audio"]
    norm = InputNorm((3, 5))
    mean = norm(stream).values
    expected = stream.values.mean(2).masked_fill(~stream.mask[..., None], 0)
    torch.testing.assert_close(mean, expected)
    with torch.no_grad():
        norm.weights.copy_(torch.tensor([0.0, 20.0, 0.0]))
    taken = InputNorm((3, 5), layers=-2)(stream).values
    torch.testing.assert_close(norm(stream).values, taken, atol=1e-5, rtol=0)
    norm(stream).values.sum().backward()
    assert norm.weights.grad is not None
    with pytest.raises(RecipeError, match="3 layers"):
        InputNorm((3, 5), layers=3)


def test_features_of_another_shape_are_refused():
    with pytest.raises(RecipeError, match=r"shape \(9,\) per step, but the model was trained on \(8,\)"):
        built()(streams(audio=(9,), visual=(6,)))


def test_stream_with_an_encoder_starts_from_media():
    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.project = torch.nn.Linear(2, 8)

        def forward(self, media):
            return media._replace(values=self.project(media.values))

    plain = built()
    model = EmotionModel(
        dict(zip(plain.names, plain.front, strict=True)), plain.fusion, plain.head, encoders={"audio": Encoder()}
    )
    model(streams(audio=(2,), visual=(6,))).logits.sum().backward()
    assert all(p.grad is not None for p in model.encoders.parameters())


def test_clip_without_streams_has_no_prediction(making, tmp_path):
    gone = [("s0-angry-0", "audio"), ("s0-angry-0", "visual")]
    manifest, store = making(tmp_path, n_speakers=1, lacking=gone)
    samples = gather(manifest, store, choose_streams(store), emotions=["a", "b"], dimensions=["valence"])
    posterior = built().posterior(samples)
    absent = np.isnan(posterior.probabilities).all(1)
    assert [i for i, a in zip(posterior.ids, absent, strict=True) if a] == ["s0-angry-0"]
    assert np.isnan(posterior.dimensions["valence"][absent]).all()


@pytest.mark.parametrize("plugin", ["subprocess.run", "collections.OrderedDict"])
def test_only_fusions_and_heads_are_called(plugin):
    with pytest.raises(RecipeError, match="not a fusion"):
        EmotionModel.build({"audio": (8,)}, (plugin, {}), ("joint", {}), emotions=("a", "b"), dimensions=())


def test_files_that_are_not_models_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    built().save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"\xff" * 64, whole[:50], whole[:-3]):
        path.write_bytes(damaged)
        with pytest.raises(StoreError):
            EmotionModel.load(path)
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(StoreError, match="not a model"):
        EmotionModel.load(path)
    path.write_bytes(whole)
    tensors, metadata = read_tensors(path)
    config = json.loads(metadata["model"])
    for key, value, error in (
        ("shapes", {"audio": [8]}, StoreError),
        ("shapes", 3, StoreError),
        ("fusion", ["afq", {}], UnknownName),
        ("fusion", ["os.system", {}], RecipeError),
        ("emotions", ["a"], StoreError),
    ):
        save_file(tensors, path, metadata={"model": json.dumps({**config, key: value})})
        with pytest.raises(error):
            EmotionModel.load(path)
