"""Accuracy and cost of fine-tuning from media.

``python benchmarks/end_to_end.py learn``     random weights: trained encoders against frozen ones
``python benchmarks/end_to_end.py loading``   a step with decoding against a step on tensors in memory
``python benchmarks/end_to_end.py kills``     twenty SIGKILLs against an uninterrupted training
``python benchmarks/end_to_end.py gpu``       wav2vec2-large and CLIP ViT-L/14, if there is a GPU

CPU seconds are printed beside wall-clock seconds. Ratios are taken within one run, with one thread for the network.
"""

import argparse
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from cpu_time import cpu
from torch.utils.flop_counter import FlopCounterMode

from affuse.cache.store import FeatureStore
from affuse.corpora.demo import make_demo_corpus
from affuse.manifest import Manifest
from affuse.posteriors.labels import Labels
from affuse.posteriors.metrics import compute_metrics
from affuse.recipes.recipe import Recipe
from affuse.training import loop
from affuse.training.checkpoint import TrainingState
from affuse.training.cross_validation import train
from affuse.training.distributed import process_group
from affuse.training.learner import build_network
from affuse.training.media_dataset import MediaDataset
from affuse.training.metadata import describe_run
from affuse.training.model import EmotionModel
from affuse.training.prefetch import MediaReader
from affuse.training.run import Run

RECIPE = """
about = "Tiny stems on the built-in corpus"
[encoders.audio]
name = "wavestem"
dim = 48
depth = 1
train = "{train}"
[encoders."audio:mel"]
name = "melstem"
dim = 48
train = "{train}"
[encoders.visual]
name = "facestem"
width = 8
dim = 64
size = 64
fps = 4
train = "{train}"
[fusion]
name = "attention"
[head]
name = "joint"
[training]
epochs = 30
batch = 16
learning_rate = 2e-3
warmup = 1.0
folds = 2
"""

FULL = """
[encoders.audio]
name = "wav2vec2"
checkpoint = "{folder}/speech"
train = "all"
[encoders.visual]
name = "image"
checkpoint = "{folder}/vision"
output = "projected"
train = "all"
[fusion]
name = "averformer"
[head]
name = "hybrid"
[training]
batch = 16
precision = "bfloat16"
folds = 2
"""
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations per second as the manufacturer states them."""


def written(folder: Path, how: str, *override: str) -> Recipe:
    """Return the recipe with frozen or trained encoders."""
    path = folder / f"tiny-{how}.toml"
    path.write_text(RECIPE.format(train=how))
    return Recipe.read(path, override=override)


def samples_of(recipe: Recipe, manifest: Manifest) -> MediaDataset:
    """Return the dataset of a manifest as the recipe reads it."""
    store = FeatureStore("nowhere")
    found, _ = Run(Path(), recipe, describe_run(recipe, manifest, store)).dataset(manifest, store)
    assert isinstance(found, MediaDataset)
    return found


def learn(folder: Path) -> None:
    """Compare frozen and trained encoders on ten speakers, two of them held out."""
    people = make_demo_corpus(folder / "corpus", n_speakers=10, n_repetitions=3)
    held = set(people.speakers[-2:])
    clips = (replace(c, split="validation" if c.speaker in held else "train") for c in people)
    manifest = Manifest(clips, name="built-in corpus")
    print(f"{len(manifest)} clips, held out: {sorted(held)}, 6 emotions")
    print(f"{'encoders':<10} {'accuracy':>8} {'waf':>6} {'wall s':>8} {'cpu s':>7}")
    for how in ("none", "all"):
        start, spent = time.perf_counter(), cpu()
        run = train(written(folder, how), manifest, FeatureStore("none"), out=folder / how)
        posterior = run.out_of_fold
        found = compute_metrics(posterior, Labels.from_manifest(manifest.subset(posterior.ids), posterior.emotions))
        print(
            f"{'frozen' if how == 'none' else 'trained':<10} {found['accuracy']:>8.3f} "
            f"{found['waf']:>6.3f} {time.perf_counter() - start:>8.1f} {cpu() - spent:>7.1f}",
            flush=True,
        )


def looped(model: EmotionModel, recipe: Recipe, place: torch.device) -> loop.Loop:
    """Return the objects that a step uses."""
    optimizer = loop.build_optimizer(model, recipe.training)
    return loop.Loop(model, optimizer, recipe.training, process_group(), place)


def loading(folder: Path) -> None:
    """Time the steps of an epoch: on tensors in memory, with decoding, and with clips from the cache."""
    manifest = make_demo_corpus(folder / "corpus", n_speakers=4, n_repetitions=2)
    recipe = written(folder, "all", "training.epochs=1", "training.batch=8")
    samples = samples_of(recipe, manifest)
    order = list(range(len(samples)))
    plan = [order[i : i + 8] for i in range(0, len(order), 8)]
    fresh = replace(samples, reader=MediaReader(samples.reader.inputs, workers=2, cache_bytes=0))
    ready = list(samples.batches(plan))
    ways = {
        "preloaded tensors": lambda: iter(ready),
        "decoding, two workers": lambda: fresh.batches(plan),
        "kept from the first epoch": lambda: samples.batches(plan),
    }
    fresh.batch(plan[0])  # the children are up
    print(f"{len(plan)} steps of 8 clips, 1.4 to 2 s, 128 x 128 at 15 frames a second, AAC")
    took: dict[str, list[float]] = {name: [] for name in ways}
    model = build_network(recipe, samples, seed=0)
    steps = looped(model, recipe, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for name, batches in ways.items():
            state = TrainingState()
            start = time.perf_counter()
            for batch in batches():
                loop._step(steps, [batch], [1.0], state, generator)
            took[name].append((time.perf_counter() - start) / len(plan))
    base = np.median(took["preloaded tensors"])
    for name, seconds in took.items():
        middle = np.median(seconds)
        print(
            f"{name:<28} {1000 * middle:>7.1f} ms a step  {middle / base:>5.2f} x "
            f"(5 epochs, {1000 * min(seconds):.1f} to {1000 * max(seconds):.1f})"
        )


def kills(folder: Path) -> None:
    """Kill a training twenty times after random steps; its losses and weights must not change."""
    manifest = make_demo_corpus(folder / "corpus", n_speakers=2, n_repetitions=1)
    manifest.write(folder / "clips.csv")
    child = [sys.executable, __file__, "child", str(folder)]
    subprocess.run([*child, "whole"], check=True)
    generator, n_kills, state = np.random.default_rng(0), 0, folder / "killed.state"
    while n_kills < 20:
        process = subprocess.Popen([*child, "killed"])
        wanted, seen, last = generator.integers(1, 4), 0, _changed(state)
        while seen < wanted and process.poll() is None:
            now = _changed(state)
            seen, last = seen + (now != last), now
            time.sleep(generator.uniform(0, 0.01))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        n_kills += 1
    subprocess.run([*child, "killed"], check=True)
    curves = [json.loads((folder / f"{name}.json").read_text()) for name in ("whole", "killed")]
    weights = [(folder / f"{name}.safetensors").read_bytes() for name in ("whole", "killed")]
    print(f"kills: {n_kills}; epochs: {len(curves[0])}")
    print(f"loss curve bit for bit the same: {curves[0] == curves[1]}")
    print(f"weights bit for bit the same: {weights[0] == weights[1]}")


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def child(folder: Path, name: str) -> None:
    """Train to the end, from the checkpoint of the process that was killed."""
    torch.set_num_threads(1)
    manifest = Manifest.read(folder / "clips.csv")
    recipe = written(folder, "all", "training.epochs=20", "training.batch=4", "fusion.dropout=0.3")
    recipe = replace(recipe, augmentation=replace(recipe.augmentation, snr=(5.0, 10.0), flip=0.5))
    samples = samples_of(recipe, manifest)
    model = build_network(recipe, samples, seed=0)
    state = None if name == "whole" else folder / "killed.state"
    history = loop.fit(model, samples, recipe.training, state_file=state, save_every=0.0)
    for line in history:
        line.pop("seconds")
    (folder / f"{name}.json").write_text(json.dumps(history))
    model.save(folder / f"{name}.safetensors")


def gpu(folder: Path) -> None:
    """Time encoders of full size with random weights: clips per second, share of the peak, memory."""
    if not torch.cuda.is_available():
        print("not run: no GPU here. Nothing is known of speed and memory on one.")
        return
    place, name = torch.device("cuda"), torch.cuda.get_device_name()
    peak = next((p for n, p in PEAKS.items() if n in name), math.nan)
    manifest = make_demo_corpus(folder / "corpus", n_speakers=8, n_repetitions=2)
    recipe = full_size(folder)
    samples = samples_of(recipe, manifest)
    fresh = replace(samples, reader=MediaReader(samples.reader.inputs, workers=16, cache_bytes=0))
    model = build_network(recipe, samples, seed=0).to(place)
    steps, generator = looped(model, recipe, place), torch.Generator().manual_seed(0)
    plan = [list(range(i, i + 16)) for i in range(0, len(samples) - 15, 16)]
    ready = [batch.to(place) for batch in samples.batches(plan)]
    with FlopCounterMode(display=False) as counter:
        loop._step(steps, ready[:1], [1.0], TrainingState(), generator)
    ways = {"tensors on the GPU": lambda: iter(ready), "decoding, 16 workers": lambda: fresh.batches(plan)}
    for way, batches in ways.items():
        torch.cuda.synchronize()
        start = time.perf_counter()
        for batch in batches():
            loop._step(steps, [batch], [1.0], TrainingState(), generator)
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - start) / len(plan)
        share = counter.get_total_flops() / seconds / peak
        memory = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"{name}, {way}: {16 / seconds:.1f} clips a second, {share:.0%} of the bf16 peak of "
            f"{peak / 1e12:.0f} TFLOP/s, {memory:.1f} GB"
        )


def full_size(folder: Path) -> Recipe:
    """Save wav2vec2-large and CLIP ViT-L/14 with random weights, and a recipe that trains both."""
    from affuse.extractors._transformers import transformers

    library = transformers()
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    speech = library.Wav2Vec2Config(**large, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
    vision = library.CLIPVisionConfig(**large, patch_size=14, projection_dim=768)
    library.Wav2Vec2Model(speech).save_pretrained(folder / "speech")
    library.Wav2Vec2FeatureExtractor().save_pretrained(folder / "speech")
    library.CLIPVisionModelWithProjection(vision).save_pretrained(folder / "vision")
    library.CLIPImageProcessor().save_pretrained(folder / "vision")
    path = folder / "full.toml"
    path.write_text(FULL.format(folder=folder))
    return Recipe.read(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["learn", "loading", "kills", "gpu", "child"])
    parser.add_argument("rest", nargs="*")
    given = parser.parse_args()
    if given.what == "child":
        child(Path(given.rest[0]), given.rest[1])
        return
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch "
        f"{torch.__version__}, one thread; load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder:
        {"learn": learn, "loading": loading, "kills": kills, "gpu": gpu}[given.what](Path(folder))


if __name__ == "__main__":
    main()
