"""VideoMAE: hidden states of each window equal the reference, and each step has its time."""

import numpy as np
import pytest
import torch

from affuse.errors import EncoderError
from affuse.extractors._transformers import transformers
from affuse.extractors.videomae import VideoMae

from ..checkpoints import NARROW, encoded, frame_media, pictures, save_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    library = transformers()
    config = library.VideoMAEConfig(**NARROW, image_size=32, num_frames=16)
    processor = library.VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return save_checkpoint(tmp_path_factory.mktemp("videomae"), library.VideoMAEModel(config), processor)


def reference(folder, frames):
    """Return input and hidden states of the reference for one window."""
    library = transformers()
    processor = library.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = library.AutoModel.from_pretrained(folder).eval()
    inputs = processor(list(frames), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return inputs, model(inputs, output_hidden_states=True).hidden_states


def over_space(state):
    return state[0].reshape(8, 4, -1).mean(1)


def test_every_layer_is_the_mean_of_the_reference_over_space(folder):
    frames = pictures(16)
    inputs, expected = reference(folder, frames)
    encoder = VideoMae.from_pretrained(str(folder))
    clip = frame_media(frames, encoder.inputs)
    np.testing.assert_allclose(encoder.prepare(clip).values, inputs[0], atol=1e-5)
    layers = encoded(encoder, clip)
    assert len(layers) == encoder.n_layers == len(expected)
    for found, state in zip(layers, expected, strict=True):
        torch.testing.assert_close(found.values[0], over_space(state), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(layers[0].times[0, :2], [0.2, 0.6], atol=1e-6)


def test_the_last_window_repeats_the_last_frame_and_drops_the_repeats(folder):
    frames = pictures(21)
    _, first = reference(folder, frames[:16])
    _, second = reference(folder, np.concatenate([frames[16:], frames[-1:].repeat(11, 0)]))
    encoder = VideoMae.from_pretrained(str(folder))
    found = encoded(encoder, frame_media(frames, encoder.inputs))[-1]
    assert found.mask.sum() == 11
    expected = torch.cat([over_space(first[-1]), over_space(second[-1])[:3]])
    torch.testing.assert_close(found.values[0], expected, atol=1e-4, rtol=1e-4)
    assert found.times[0, -1] == pytest.approx(20.5 / 5)


def test_overlapping_windows_are_averaged(folder):
    frames = pictures(24)
    _, first = reference(folder, frames[:16])
    _, second = reference(folder, frames[8:])
    encoder = VideoMae.from_pretrained(str(folder), hop=8)
    found = encoded(encoder, frame_media(frames, encoder.inputs))[-1].values[0]
    a, b = over_space(first[-1]), over_space(second[-1])
    torch.testing.assert_close(found[:4], a[:4], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[4:8], (a[4:] + b[:4]) / 2, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[8:], b[4:], atol=1e-4, rtol=1e-4)


def test_features_do_not_depend_on_the_batch():
    encoder = VideoMae.untrained()
    clips = [frame_media(pictures(n, seed=n), encoder.inputs) for n in (5, 19)]
    together = encoded(encoder, *clips)[-1]
    alone = encoded(encoder, clips[0])[-1]
    assert together.mask.sum(1).tolist() == [3, 10]
    torch.testing.assert_close(together.values[0, :3], alone.values[0], atol=1e-5, rtol=1e-5)


def test_a_hop_that_is_not_a_multiple_of_a_step_is_refused(folder):
    with pytest.raises(EncoderError, match="multiple of 2"):
        VideoMae.from_pretrained(str(folder), hop=3)
