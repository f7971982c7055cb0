"""ONNX models of sound and of pictures, and protection against untrusted files."""

import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from affuse.errors import EncoderError
from affuse.extractors.onnx import Onnx

from ..checkpoints import encoded, frame_media, pictures, voice


def saved(path, module, example, names, *, free):
    """Export a torch module whose axes `free` have any size."""
    torch.onnx.export(
        module.eval(),
        (example,),
        str(path),
        dynamo=False,
        input_names=["x"],
        output_names=names,
        dynamic_axes={"x": free, **{n: {0: "batch"} for n in names}},
    )
    return path


class Voice(nn.Module):
    """A model with two outputs like that of audEERING: a sequence and its mean."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Conv1d(1, 12, 400, stride=320)

    def forward(self, x):
        sequence = self.layers(x[:, None]).transpose(1, 2)
        return sequence.mean(1), sequence


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    torch.manual_seed(0)
    module = Voice()
    path = tmp_path_factory.mktemp("onnx") / "voice.onnx"
    free = {0: "batch", 1: "samples"}
    with pytest.warns(DeprecationWarning):
        saved(path, module, torch.zeros(1, 16000), ["vector", "sequence"], free=free)
    return path, module


@pytest.fixture(scope="module", params=["one", "any"])
def faces(request, tmp_path_factory):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    path = tmp_path_factory.mktemp("onnx") / "faces.onnx"
    free = {0: "batch"} if request.param == "any" else {}
    with pytest.warns(DeprecationWarning):
        saved(path, module, torch.zeros(1, 3, 32, 32), ["vector"], free=free)
    return path, module


def test_a_model_of_sound_gives_a_vector_per_clip(speech):
    path, module = speech
    encoder, clip = Onnx.from_pretrained(str(path)), voice(0.9)
    samples = torch.from_numpy(clip.values)
    samples = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
    with torch.no_grad():
        expected, _ = module(samples[None])
    found = encoded(encoder, clip, voice(1.5))[0]
    assert found.values.shape == (2, 1, 12)
    assert encoder.modality == "audio"
    torch.testing.assert_close(found.values[0], expected, atol=1e-4, rtol=1e-4)
    assert found.times[0, 0] == pytest.approx(0.45)


def test_an_output_is_selected_by_its_name(speech):
    path, module = speech
    encoder = Onnx.from_pretrained(str(path), output="sequence", normalise=False)
    clip = voice(0.9)
    with torch.no_grad():
        _, expected = module(torch.from_numpy(clip.values)[None])
    found = encoded(encoder, clip)[0]
    torch.testing.assert_close(found.values, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(EncoderError, match="outputs are vector, sequence"):
        Onnx.from_pretrained(str(path), output="logits")


def test_a_model_of_pictures_gives_a_vector_per_frame(faces):
    path, module = faces
    encoder = Onnx.from_pretrained(str(path), fps=5)
    clip = frame_media(pictures(3), encoder.inputs)
    pixels = torch.from_numpy(clip.values).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = module((pixels - mean[:, None, None]) / std[:, None, None]).flatten(1)
    found = encoded(encoder, clip)[0]
    torch.testing.assert_close(found.values[0], expected, atol=1e-4, rtol=1e-4)
    assert (encoder.modality, encoder.dim, encoder.rate) == ("visual", 8, 5)


def model_with_external_weights(path, location):
    weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [weights],
    )
    onnx.save(helper.make_model(graph, ir_version=8), str(path))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "gone.bin"])
def test_weights_outside_the_folder_of_the_model_are_refused(tmp_path, location):
    (tmp_path / "secret").write_bytes(np.ones(16, np.float32).tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    model_with_external_weights(folder / "model.onnx", location)
    with pytest.raises(EncoderError, match="in the folder of the model"):
        Onnx.from_pretrained(str(folder / "model.onnx"))
    with pytest.raises(EncoderError, match="in the folder of the model"):
        Onnx.from_pretrained(str(folder))


def test_other_files_and_models_are_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(EncoderError, match="not an ONNX model"):
        Onnx.from_pretrained(str(tmp_path / "text.onnx"))
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3, 4]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", info[:1], info[1:])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), str(tmp_path / "cube.onnx"))
    with pytest.raises(EncoderError, match="Expected one input, of sound"):
        Onnx.from_pretrained(str(tmp_path / "cube.onnx"))


def test_without_onnxruntime_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EncoderError, match=r"pip install 'affuse\[onnx\]'"):
        Onnx.untrained()
