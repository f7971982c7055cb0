"""Speed of the encoders in clips per second, and the overhead of affuse over the bare network.

``python benchmarks/encoders.py``                            base sizes, on this machine's CPU
``python benchmarks/encoders.py --size large --device cuda --precision bfloat16 --batch 16 --passes 50``

The networks have the published sizes and random weights; a clip is 4 s of sound, or 8 frames (16 for
VideoMAE). `bare` is the same network called directly on the same prepared input, alternating with
affuse in one run. On CUDA, `busy` is the fraction of the wall time inside forward passes according to
the clock of the device, an upper bound of the time that its kernels run. It has not been measured on
CUDA yet.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from affuse.extractors._encoder import Encoder, Frames, Sound
from affuse.extractors._frames import Pixels
from affuse.extractors._transformers import transformers
from affuse.extractors.clip import ClipEncoder, build
from affuse.extractors.image import ImageEncoder
from affuse.extractors.videomae import VideoMae
from affuse.extractors.wav2vec2 import Wav2Vec2
from affuse.extractors.whisper import Whisper, log_mel
from affuse.tensors import Stream

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
PLAIN = Pixels(Frames(size=224, crop_size=224), 1 / 255, (0.5,) * 3, (0.5,) * 3)
SECONDS = 4


def networks(size: str) -> dict[str, Callable[[], Encoder]]:
    """Return functions that make encoders of one size; call them with the default device ``meta``."""
    library = transformers()
    large = size == "large"
    more: dict[str, Any] = LARGE if large else {}
    stable: dict[str, Any] = {**more, **STABLE} if large else {}
    vision = {
        "image_size": 224,
        "layers": 24 if large else 12,
        "width": 1024 if large else 768,
        "patch_size": 14 if large else 32,
    }
    layout = {"model_cfg": {"embed_dim": 768 if large else 512, "vision_cfg": vision}, "preprocess_cfg": {}}

    def speech(model: Any) -> Encoder:
        return Wav2Vec2().set_model(model, normalise=True)

    def whisper(window: str) -> Encoder:
        width, depth = (1280, 32) if large else (512, 6)
        config = library.WhisperConfig(
            d_model=width,
            encoder_layers=depth,
            encoder_attention_heads=width // 64,
            encoder_ffn_dim=4 * width,
            num_mel_bins=128 if large else 80,
        )
        encoder = library.models.whisper.modeling_whisper.WhisperEncoder(config)
        return Whisper(window=window).set_encoder(encoder)

    names = (
        (
            "CLIP ViT-L/14",
            "HuBERT-large",
            "WavLM-large",
            "Whisper-large-v3",
            "Whisper-large-v3, exact",
            "VideoMAE-large",
            "DINOv2-large",
        )
        if large
        else (
            "CLIP ViT-B/32",
            "HuBERT-base",
            "WavLM-base",
            "Whisper-base",
            "Whisper-base, exact",
            "VideoMAE-base",
            "DINOv2-base",
        )
    )
    makers: tuple[Callable[[], Encoder], ...] = (
        lambda: ClipEncoder(frames=8).set_tower(build(layout["model_cfg"]), layout),
        lambda: speech(library.HubertModel(library.HubertConfig(**stable))),
        lambda: speech(library.WavLMModel(library.WavLMConfig(**stable))),
        lambda: whisper("padded"),
        lambda: whisper("exact"),
        lambda: VideoMae(frames=16).set_model(library.VideoMAEModel(library.VideoMAEConfig(**more)), PLAIN),
        lambda: ImageEncoder(frames=8).set_model(library.Dinov2Model(library.Dinov2Config(**more)), PLAIN),
    )
    return dict(zip(names, makers, strict=True))


def filled(maker: Callable[[], Encoder], device: str) -> Encoder:
    """Return an encoder with random weights, drawn on its device."""
    with torch.device("meta"):
        encoder = maker()
    encoder = encoder.to_empty(device=device).eval().requires_grad_(False)
    for tensor in encoder.state_dict(keep_vars=True).values():
        if tensor.is_floating_point():
            tensor.normal_(std=0.02)
    return encoder


def clips(encoder: Encoder, n_clips: int, device: str) -> Stream:
    """Return prepared clips of equal length."""
    if isinstance(encoder.inputs, Sound):
        n = SECONDS * encoder.inputs.sampling_rate
        values = torch.randn(n_clips, n, device=device)
    else:
        n = encoder.inputs.count or 8
        values = torch.randn(n_clips, n, 3, 224, 224, device=device)
    mask = torch.ones(n_clips, n, dtype=torch.bool, device=device)
    return Stream(values, mask, torch.arange(n, device=device).repeat(n_clips, 1) * SECONDS / n)


def bare(encoder: Encoder) -> Callable[[Stream], Any]:
    """Return a function that calls the network directly on the same input."""
    if isinstance(encoder, Whisper):
        network = encoder.encoder
        missing = 30 * 16_000 - SECONDS * 16_000

        def call(media: Stream) -> Tensor:
            samples = torch.nn.functional.pad(media.values, (0, missing))
            return network(log_mel(samples, encoder.n_mels), output_hidden_states=True)

        return call
    if isinstance(encoder, ClipEncoder):
        return lambda media: encoder.tower(media.values.flatten(0, 1))
    if isinstance(encoder, ImageEncoder):
        return lambda media: encoder.model(media.values.flatten(0, 1), output_hidden_states=True)
    network = encoder.model
    return lambda media: network(media.values, output_hidden_states=True)


def passes(call: Callable[[Stream], Any], media: Stream, n: int, cuda: bool) -> tuple[float, float]:
    """Return the seconds of `n` passes by wall time and by the clock of the device."""
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(2 * n)] if cuda else []
    began = time.perf_counter()
    for i in range(n):
        if cuda:
            marks[2 * i].record()
        call(media)
        if cuda:
            marks[2 * i + 1].record()
    if not cuda:
        return time.perf_counter() - began, float("nan")
    torch.cuda.synchronize()
    wall = time.perf_counter() - began
    return wall, sum(a.elapsed_time(b) for a, b in zip(marks[::2], marks[1::2], strict=True)) / 1e3


def measured(name: str, maker: Callable[[], Encoder], options: argparse.Namespace) -> str:
    """Return one line of the table."""
    cuda = options.device.startswith("cuda")
    encoder = filled(maker, options.device)
    media = clips(encoder, options.batch, options.device)
    direct = bare(encoder)
    dtype = getattr(torch, options.precision)
    cast = nullcontext() if dtype == torch.float32 else torch.autocast(options.device, dtype)
    walls: dict[str, list[float]] = {"affuse": [], "bare": []}
    busy, cpu = 0.0, 0.0
    with torch.inference_mode(), cast:
        for call in (encoder, direct):
            passes(call, media, 1, cuda)
        for _ in range(options.rounds):
            began = time.process_time()
            wall, device = passes(encoder, media, options.passes, cuda)
            cpu += time.process_time() - began
            walls["affuse"].append(wall)
            busy += device
            walls["bare"].append(passes(direct, media, options.passes, cuda)[0])
    n_clips = options.batch * options.passes
    best = {who: min(times) for who, times in walls.items()}
    share = f"{100 * busy / sum(walls['affuse']):5.0f} %" if cuda else "      -"
    return (
        f"{name:<24} {n_clips / best['affuse']:9.2f} {n_clips / best['bare']:9.2f} "
        f"{best['affuse'] / best['bare']:7.2f} {cpu / n_clips / options.rounds:12.3f} "
        f"{share}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=["base", "large"], default="base", help="Size of the networks.")
    parser.add_argument("--device", default="cpu", help="Device of torch.")
    parser.add_argument(
        "--precision",
        choices=["float32", "float16", "bfloat16"],
        default="float32",
        help="Precision of the forward pass.",
    )
    parser.add_argument("--batch", type=int, default=1, help="Number of clips per batch.")
    parser.add_argument("--passes", type=int, default=2, help="Number of passes per measurement.")
    parser.add_argument("--rounds", type=int, default=3, help="Number of measurements, of which the best counts.")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    cuda = options.device.startswith("cuda")
    machine = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    print(
        f"{machine}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, "
        f"{options.precision}, batch {options.batch}, best of {options.rounds}"
    )
    print(f"{'encoder':<24} {'clips/s':>9} {'bare':>9} {'ratio':>7} {'cpu s / clip':>12} {'busy':>7}")
    for name, maker in networks(options.size).items():
        print(measured(name, maker, options), flush=True)


if __name__ == "__main__":
    main()
