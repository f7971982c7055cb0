"""Hidden states of Whisper's encoder equal those of openai-whisper and of transformers."""

import numpy as np
import pytest
import torch
import whisper

from affuse.errors import EncoderError, MediaError
from affuse.extractors._encoder import Media
from affuse.extractors._transformers import transformers
from affuse.extractors.whisper import SAMPLING_RATE, Whisper, log_mel, n_states

from ..checkpoints import encoded, save_checkpoint, voice


@pytest.fixture(scope="module")
def openai(tmp_path_factory):
    """Save a tiny model in the format of openai-whisper."""
    dims = whisper.model.ModelDimensions(
        n_mels=80,
        n_audio_ctx=1500,
        n_audio_state=32,
        n_audio_head=2,
        n_audio_layer=3,
        n_vocab=51865,
        n_text_ctx=8,
        n_text_state=32,
        n_text_head=2,
        n_text_layer=1,
    )
    torch.manual_seed(2)
    model = whisper.model.Whisper(dims).eval()
    path = tmp_path_factory.mktemp("whisper") / "tiny.pt"
    torch.save({"dims": vars(dims), "model_state_dict": model.state_dict()}, path)
    return path, model


@pytest.fixture(scope="module", params=[80, 128])
def hub(request, tmp_path_factory):
    library = transformers()
    config = library.WhisperConfig(
        num_mel_bins=request.param,
        d_model=32,
        encoder_layers=3,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        vocab_size=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    extractor = library.WhisperFeatureExtractor(feature_size=request.param)
    return save_checkpoint(tmp_path_factory.mktemp("hub"), library.WhisperModel(config), extractor)


def test_states_equal_openai_whisper_on_padded_input(openai):
    path, model = openai
    clip = voice(1.7)
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(clip.values))[None]
    with torch.no_grad():
        expected = model.encoder(mel)[0]
    found = encoded(Whisper.from_pretrained(str(path), allow_pickle=True), clip)[-1]
    assert found.values.shape == (1, 85, 32)
    torch.testing.assert_close(found.values[0], expected[:85], atol=1e-4, rtol=1e-4)


def test_states_of_every_layer_equal_transformers(hub):
    library = transformers()
    clip = voice(1.2)
    extractor = library.AutoFeatureExtractor.from_pretrained(hub)
    inputs = extractor(clip.values, sampling_rate=SAMPLING_RATE, return_tensors="pt")
    model = library.WhisperModel.from_pretrained(hub).eval()
    with torch.no_grad():
        expected = model.encoder(inputs["input_features"], output_hidden_states=True).hidden_states
    layers = encoded(Whisper.from_pretrained(str(hub)), clip)
    assert len(layers) == len(expected)
    for found, state in zip(layers, expected, strict=True):
        torch.testing.assert_close(found.values[0], state[0, :60], atol=1e-4, rtol=1e-4)


def test_exact_windows_equal_the_encoder_without_padding(openai):
    path, model = openai
    clip = voice(1.7)
    mel = whisper.log_mel_spectrogram(clip.values)[None]
    positions = model.encoder.positional_embedding
    model.encoder.positional_embedding = positions[: (mel.shape[-1] + 1) // 2]
    with torch.no_grad():
        expected = model.encoder(mel)
    model.encoder.positional_embedding = positions
    exact = Whisper.from_pretrained(str(path), window="exact", allow_pickle=True)
    padded = Whisper.from_pretrained(str(path), allow_pickle=True)
    torch.testing.assert_close(encoded(exact, clip)[-1].values, expected, atol=1e-4, rtol=1e-4)
    assert exact.identity() != padded.identity()


def test_long_clips_are_split_into_windows_of_thirty_seconds(openai):
    path, model = openai
    clip = voice(31.5)
    found = encoded(Whisper.from_pretrained(str(path), allow_pickle=True), clip)[-1]
    assert found.mask.sum() == n_states(len(clip.values)) == 1575
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(clip.values[30 * SAMPLING_RATE :]))
    with torch.no_grad():
        expected = model.encoder(mel[None])[0, :75]
    torch.testing.assert_close(found.values[0, 1500:], expected, atol=1e-4, rtol=1e-4)
    assert found.times[0, 1500] == pytest.approx(30.0)


@pytest.mark.parametrize("window", ["padded", "exact"])
def test_features_do_not_depend_on_the_batch(window):
    encoder = Whisper.untrained(window=window)
    together = encoded(encoder, voice(0.5), voice(1.1))[-1]
    alone = encoded(encoder, voice(0.5))[-1]
    assert together.mask.sum(1).tolist() == [25, 55]
    torch.testing.assert_close(together.values[0, :25], alone.values[0], atol=1e-5, rtol=1e-5)


def test_log_mel_of_a_batch_equals_openai_whisper_clip_by_clip():
    clips = np.stack([voice(1.0).values * loudness for loudness in (1, 1e-4)])
    found = log_mel(torch.from_numpy(clips), 80)
    for clip, mel in zip(clips, found, strict=True):
        torch.testing.assert_close(mel, whisper.log_mel_spectrogram(clip), atol=1e-5, rtol=1e-5)


def test_wrong_names_and_pickled_files_say_what_to_do(openai):
    with pytest.raises(EncoderError, match="large-v3-turbo"):
        Whisper.from_pretrained("larg-v3")
    with pytest.raises(EncoderError, match="--allow-pickle"):
        Whisper.from_pretrained(str(openai[0]))
    with pytest.raises(EncoderError, match="window=exact|padded and exact"):
        Whisper.untrained(window="none")
    with pytest.raises(MediaError, match="too_short"):
        Whisper.untrained().prepare(Media(np.zeros(99, np.float32), np.empty(0), 0.01))
