"""ONNX files reproduce the outputs of the model that they were exported from."""

import pytest
import torch

from affuse.errors import RecipeError
from affuse.inference.onnx import write_onnx
from affuse.recipes.encoder_settings import EncoderSettings
from affuse.recipes.recipe import Recipe
from affuse.training.model import EmotionModel

SHAPES = {"audio": (8,), "visual": (6,)}
MEDIA = {
    "audio": EncoderSettings("wavestem", train="all", options={"dim": 16, "depth": 1}),
    "visual": EncoderSettings("facestem", train="all", options={"width": 4, "size": 32}),
}


def build(name, *, encoders=None, shapes=SHAPES):
    recipe = Recipe.read(name)
    torch.manual_seed(0)
    return EmotionModel.build(
        shapes,
        (recipe.fusion.name, recipe.fusion.options),
        (recipe.head.name, recipe.head.options),
        emotions=("a", "b", "c"),
        dimensions=("valence",),
        encoders=encoders,
    )


@pytest.mark.parametrize("name", ["mer2023-afg-a", "jca", "avtca", "averformer", "lmf"])
def test_the_file_reproduces_the_model(name, tmp_path):
    pytest.importorskip("onnxruntime")
    assert write_onnx(build(name), tmp_path / "x.onnx") < 1e-4
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    assert [o.name for o in session.get_outputs()] == ["probabilities", "dimensions"]
    assert {i.name for i in session.get_inputs()} >= {"audio.values", "audio.mask"}


def test_the_file_can_include_the_encoders(tmp_path):
    pytest.importorskip("onnxruntime")
    model = build("attention", encoders=MEDIA, shapes={"audio": (16,), "visual": (64,)})
    assert write_onnx(model, tmp_path / "x.onnx", include_encoders=True) < 1e-4


def test_a_file_with_other_outputs_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    model = build("concat")
    real, calls = torch.Tensor.softmax, []

    def drifting(self, *arguments, **options):  # a trace keeps the result of the first call
        calls.append(1)
        return real(self * len(calls), *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "softmax", drifting)
    with pytest.raises(RecipeError, match="outputs differ by"):
        write_onnx(model, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
