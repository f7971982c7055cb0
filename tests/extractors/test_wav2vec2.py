"""Features of speech models equal the reference, for single clips and for batches."""

import numpy as np
import pytest
import torch

from affuse.errors import EncoderError, MediaError
from affuse.extractors._encoder import Media
from affuse.extractors._transformers import transformers
from affuse.extractors.wav2vec2 import Wav2Vec2
from affuse.tensors import Stream

from ..checkpoints import encoded, speech, voice

KINDS = [
    ("Wav2Vec2", False, True),
    ("Hubert", True, True),
    ("WavLM", True, False),
    ("Wav2Vec2", True, True),
    ("WavLM", False, True),
    ("Data2VecAudio", True, True),
]


@pytest.fixture(scope="module", params=KINDS, ids=lambda k: f"{k[0]}-{'large' if k[1] else 'base'}")
def folder(request, tmp_path_factory):
    kind, large, normalise = request.param
    return speech(tmp_path_factory.mktemp("speech"), kind, large=large, normalise=normalise)


def reference(folder, samples):
    """Run the processor and the model of transformers."""
    library = transformers()
    processor = library.AutoFeatureExtractor.from_pretrained(folder)
    model = library.AutoModel.from_pretrained(folder).eval()
    inputs = processor(samples, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        return inputs["input_values"][0], model(**inputs, output_hidden_states=True)


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
def test_features_equal_the_reference(folder):
    encoder, clip = Wav2Vec2.from_pretrained(str(folder)), voice(0.8)
    inputs, expected = reference(folder, clip.values)
    np.testing.assert_allclose(encoder.prepare(clip).values, inputs, atol=1e-5)
    layers = encoded(encoder, clip)
    assert len(layers) == encoder.n_layers == len(expected.hidden_states)
    for found, state in zip(layers, expected.hidden_states, strict=True):
        torch.testing.assert_close(found.values, state, atol=1e-4, rtol=1e-4)
    normed = encoded(Wav2Vec2.from_pretrained(str(folder), normed=True), clip)
    torch.testing.assert_close(normed[-1].values, expected.last_hidden_state, atol=1e-4, rtol=1e-4)


def test_features_do_not_depend_on_the_batch(folder):
    encoder = Wav2Vec2.from_pretrained(str(folder))
    together = encoded(encoder, voice(0.5), voice(1.1), voice(0.5, seed=4))
    for row, clip in enumerate([voice(0.5), voice(1.1), voice(0.5, seed=4)]):
        alone = encoded(encoder, clip)
        for ours, theirs in zip(together, alone, strict=True):
            n = len(theirs.values[0])
            assert ours.mask[row].sum() == n
            torch.testing.assert_close(ours.values[row, :n], theirs.values[0], atol=1e-4, rtol=1e-4)


def test_values_in_the_padding_change_neither_features_nor_gradients(folder):
    encoder, clip = Wav2Vec2.from_pretrained(str(folder)), voice(0.5)
    short, long = (encoder.prepare(c).values for c in (clip, voice(0.8)))
    values = torch.full((2, len(long) + 900), torch.nan)
    values[0, : len(short)], values[1, : len(long)] = short, long
    found = encoder(Stream(values, ~values.isnan(), torch.zeros_like(values)))
    found[-1].values[found[-1].mask].square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)
    for ours, theirs in zip(found, encoded(encoder, clip), strict=True):
        n = len(theirs.values[0])
        torch.testing.assert_close(ours.values[0, :n], theirs.values[0], atol=1e-4, rtol=1e-4)


def test_the_identity_distinguishes_weights(folder, tmp_path):
    one = Wav2Vec2.from_pretrained(str(folder)).identity()
    other = speech(tmp_path, "Wav2Vec2", large=False, normalise=False)
    assert one["revision"] != Wav2Vec2.from_pretrained(str(other)).identity()["revision"]
    assert len(one["revision"]) == 40


def test_the_time_of_a_step_is_the_centre_of_its_receptive_field():
    encoder = Wav2Vec2.untrained()
    times = encoded(encoder, voice(0.2))[0].times[0]
    np.testing.assert_allclose(times[:2], [0.0125, 0.0325])
    assert encoder.rate == 50


def test_gradients_reach_the_first_convolution():
    encoder = Wav2Vec2.untrained()
    clip = encoder.prepare(voice(0.2))
    mask = torch.ones(1, len(clip.values), dtype=torch.bool)
    encoder(Stream(clip.values[None], mask, clip.times[None]))[-1].values.sum().backward()
    assert encoder.model.feature_extractor.conv_layers[0].conv.weight.grad.abs().sum() > 0


def test_layers_are_not_dropped_in_training_mode(folder):
    encoder = Wav2Vec2.from_pretrained(str(folder)).train()
    assert all(len(encoded(encoder, voice(0.2))) == encoder.n_layers for _ in range(12))


def test_a_clip_without_sound_in_a_batch_is_masked():
    encoder = Wav2Vec2.untrained()
    values, mask = torch.randn(2, 4000), torch.zeros(2, 4000, dtype=torch.bool)
    mask[0] = True
    found = encoder(Stream(values, mask, torch.zeros(2, 4000)))[-1]
    assert found.mask.sum(1).tolist() == [12, 0]


def test_a_clip_that_is_too_short_is_a_media_error():
    with pytest.raises(MediaError, match="too_short"):
        Wav2Vec2.untrained().prepare(Media(np.zeros(300, np.float32), np.empty(0), 0.02))


def test_a_checkpoint_of_another_family_is_refused(tmp_path):
    library = transformers()
    library.BertConfig(hidden_size=16).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(EncoderError, match="bert model. The encoder wav2vec2 reads wav2vec2, hubert"):
        Wav2Vec2.from_pretrained(str(tmp_path))


def test_a_checkpoint_with_missing_weights_is_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layers.1.attention.k_proj.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(EncoderError, match="lacks 1 of the weights"):
        Wav2Vec2.from_pretrained(str(tmp_path))
