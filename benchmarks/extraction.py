"""Speed of extraction, compared with the lower bound of the machine and with a plain loop.

``python benchmarks/extraction.py``             100 clips of 720p with sound
``python benchmarks/extraction.py --clips 24``  fewer clips
``python benchmarks/extraction.py --videos ../shared/data/ravdess/video``  real recordings

The bound is the CPU time of decoding and of the bare forward passes, divided by the number of
cores; a run that reaches it has no overhead. The plain loop does what common scripts do: one pass
over all clips per encoder, all frames to PIL, the processor of the model, one ``.npy`` per clip. The
encoders are CLIP ViT-B/32 with 8 frames per clip and wav2vec2-base, in full size with random
weights. CPU seconds include child processes; they are more reliable than wall seconds where other
programs use the machine as well.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cpu_time import cpu

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
CORES = len(os.sched_getaffinity(0))


def clips(folder: Path, n: int) -> None:
    """Write `n` clips, ten of them different: 2 to 5 s of a moving texture and a tone."""
    from media_files import tone, write_clip

    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (60, 100, 3)).astype(np.uint8)
    fine = random.integers(0, 24, (1000, 1700, 3)).astype(np.uint8)
    texture = np.kron(coarse, np.ones((17, 17, 1), np.uint8))[:1000, :1700] // 2 + fine

    def draw(seconds: float, size: tuple[int, int], seed: int) -> np.ndarray:
        x, y = round(120 + 100 * np.sin(seconds + seed)), round(60 + 50 * np.cos(seconds))
        return np.ascontiguousarray(texture[y : y + size[1], x : x + size[0]])

    for i in range(n):
        place = folder / f"{i:03d}.mp4"
        if i < 10:
            seconds = 2 + i / 3
            write_clip(
                place,
                seconds=seconds,
                fps=30,
                size=(1280, 720),
                draw=draw,
                seed=i,
                sound=tone(seconds, 44_100, 2, i),
                options={"preset": "veryfast", "crf": "23"},
            )
        else:
            shutil.copy(folder / f"{i % 10:03d}.mp4", place)


def recordings(folder: Path, source: Path, n: int) -> None:
    """Copy `n` clips from a folder of videos with sound, repeating them as needed."""
    videos = sorted(source.glob("01-*.mp4"))
    folder.mkdir(parents=True)
    for i in range(n):
        shutil.copy(videos[i % len(videos)], folder / f"{i:03d}.mp4")


def checkpoints(folder: Path) -> list[str]:
    """Write checkpoints of full size with random weights, and return their requests."""
    from affuse.extractors import _torchvision
    from affuse.extractors._transformers import transformers

    _torchvision.declare_missing_operators()
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32")
    (folder / "clip").mkdir(parents=True)
    save_file(model.state_dict(), folder / "clip" / "open_clip_model.safetensors")
    layout = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
    (folder / "clip" / "open_clip_config.json").write_text(json.dumps(layout))
    library = transformers()
    library.Wav2Vec2Model(library.Wav2Vec2Config()).save_pretrained(folder / "speech")
    library.Wav2Vec2FeatureExtractor().save_pretrained(folder / "speech")
    return [f"clip:{folder / 'clip'},frames=8", f"wav2vec2:{folder / 'speech'}"]


# -- stages, each in its own process ----------------------------------------------------------


def bound(folder: Path, requests: list[str]) -> dict[str, float]:
    """Return the CPU seconds of decoding and of the bare forward passes with one thread."""
    import torch

    from affuse.corpora._folder import scan
    from affuse.extractors._batching import Item, batch_limit, batches
    from affuse.extractors._encoder import pad_sequences
    from affuse.extractors._loading import build_encoder
    from affuse.extractors._request import Request
    from affuse.media.inputs import Source
    from affuse.media.read import read

    torch.set_num_threads(1)
    encoders = [build_encoder(Request.parse(request)).eval() for request in requests]
    items: list[list[Item]] = [[] for _ in encoders]
    decode = 0.0
    for i, clip in enumerate(scan(folder / "clips")):
        began = time.process_time()
        media, _ = read(Source.from_clip(clip), [encoder.inputs for encoder in encoders])
        decode += time.process_time() - began
        for place, encoder in enumerate(encoders):
            items[place].append(Item(i, 0.0, encoder.prepare(media[place])))
    found = {"decode": decode}
    with torch.inference_mode():
        for encoder, mine in zip(encoders, items, strict=True):
            limit = batch_limit(encoder.inputs, torch.device("cpu"))
            for warm in (True, False):
                began = time.process_time()
                for batch in list(batches(mine, batching=encoder.batching, limit=limit))[: 1 if warm else None]:
                    encoder(pad_sequences([b.prepared.values for b in batch], [b.prepared.times for b in batch]))
            found[encoder.modality] = time.process_time() - began
    return found


def affuse(folder: Path, requests: list[str]) -> dict[str, float]:
    """Extract with affuse; the encoders are loaded before the measurement starts."""
    import threading

    from affuse.cache.store import FeatureStore
    from affuse.corpora._folder import scan
    from affuse.engines._extraction import Extraction

    spent = [0.0]
    lock = threading.Lock()

    class Timed(FeatureStore):
        def write(self, *arguments: Any) -> str:
            began = time.thread_time()
            done = super().write(*arguments)
            with lock:
                spent[0] += time.thread_time() - began
            return done

    out = Path(tempfile.mkdtemp(dir=folder))
    extraction = Extraction(scan(folder / "clips"), requests, Timed(out))
    before, began = cpu(), time.monotonic()
    report = extraction.run()
    assert not report.failures
    found = {"wall": time.monotonic() - began, "cpu": cpu() - before, "store": spent[0]}
    shutil.rmtree(out)
    return found


def plain(folder: Path, requests: list[str]) -> dict[str, float]:
    """Extract as common scripts do: per encoder, clip by clip, all frames to PIL, one `.npy` per clip."""
    import av
    import torch

    from affuse.extractors import _torchvision
    from affuse.extractors._transformers import transformers

    _torchvision.declare_missing_operators()
    import open_clip

    torch.set_num_threads(CORES)
    out = Path(tempfile.mkdtemp(dir=folder))
    files = sorted((folder / "clips").glob("*.mp4"))
    found = {}
    model = open_clip.create_model("ViT-B-32").eval()
    process = open_clip.image_transform(224, is_train=False)
    before, began = cpu(), time.monotonic()
    for file in files:
        with av.open(str(file)) as container:
            pictures = [frame.to_image() for frame in container.decode(video=0)]
        chosen = np.linspace(0, len(pictures) - 1, 8).round().astype(int)
        with torch.no_grad():
            pixels = torch.stack([process(pictures[i]) for i in chosen])
            np.save(out / f"{file.stem}.npy", model.encode_image(pixels).numpy())
    found |= {"visual wall": time.monotonic() - began, "visual cpu": cpu() - before}
    library = transformers()
    speech = library.Wav2Vec2Model.from_pretrained(folder / "speech").eval()
    extractor = library.Wav2Vec2FeatureExtractor.from_pretrained(folder / "speech")
    before, began = cpu(), time.monotonic()
    for file in files:
        resampler = av.AudioResampler("s16", "mono", 16_000)
        with av.open(str(file)) as container:
            pieces = [
                piece.to_ndarray()[0] for frame in container.decode(audio=0) for piece in resampler.resample(frame)
            ]
        samples = np.concatenate(pieces).astype(np.float32) / 32768
        with torch.no_grad():
            values = extractor(samples, sampling_rate=16_000, return_tensors="pt").input_values
            states = speech(values).last_hidden_state
        np.save(out / f"{file.stem}.npy", states.numpy())
    found |= {"audio wall": time.monotonic() - began, "audio cpu": cpu() - before}
    shutil.rmtree(out)
    return found


def staged(stage: str, folder: Path, requests: list[str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder), *requests]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    """Run all stages and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100, help="Number of clips.")
    parser.add_argument("--videos", type=Path, help="Folder of recordings (01-*.mp4) to use instead of drawn clips.")
    parser.add_argument("--stage")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("requests", nargs="*")
    options = parser.parse_args()
    if options.stage:
        stages = {"bound": bound, "affuse": affuse, "plain": plain}
        print(json.dumps(stages[options.stage](options.folder, options.requests)))
        return
    load = os.getloadavg()[0]
    print(f"{platform.processor()}, {CORES} cores, load {load:.1f}, {options.clips} clips of 720p")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.videos:
            recordings(folder / "clips", options.videos, options.clips)
        else:
            clips(folder / "clips", options.clips)
        requests = checkpoints(folder)
        least = staged("bound", folder, requests)
        both = staged("affuse", folder, requests)
        loop = staged("plain", folder, requests)
        visual = staged("affuse", folder, requests[:1])
    total = sum(least.values())
    print(f"decoding {least['decode']:.1f}, CLIP {least['visual']:.1f}, wav2vec2 {least['audio']:.1f} s CPU")
    loop_wall, loop_cpu = (loop[f"visual {k}"] + loop[f"audio {k}"] for k in ("wall", "cpu"))
    for label, wall, seconds in (
        ("bound", total / CORES, total),
        ("affuse", both["wall"], both["cpu"]),
        ("plain loop", loop_wall, loop_cpu),
        ("affuse, CLIP alone", visual["wall"], visual["cpu"]),
        ("plain loop, CLIP alone", loop["visual wall"], loop["visual cpu"]),
    ):
        print(f"{label:24} {wall:7.1f} s wall  {seconds:7.1f} s CPU")
    for label, wall, seconds, bar in (
        ("affuse / bound", both["wall"] / total * CORES, both["cpu"] / total, "at most 1.15"),
        ("plain loop / affuse", loop_wall / both["wall"], loop_cpu / both["cpu"], "at least 2"),
        (
            "the same, CLIP alone",
            loop["visual wall"] / visual["wall"],
            loop["visual cpu"] / visual["cpu"],
            "at least 3",
        ),
    ):
        print(f"{label:24} {wall:7.2f} wall    {seconds:7.2f} CPU    (bar: {bar}, wall)")
    print(f"store's share of CPU     {100 * both['store'] / both['cpu']:.2f} %  (bar: at most 2 %)")
    print(f"load now {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
