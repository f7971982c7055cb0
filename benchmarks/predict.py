"""A first answer for one's own clip, against what no program could leave out.

``python benchmarks/predict.py``              drawn clip of 5 s, 720p with sound
``python benchmarks/predict.py --video FILE`` a recording of your own

The bare script imports the libraries, loads the two encoders from disk, decodes the clip and runs
them once; it checks nothing, writes nothing and predicts nothing. `affuse predict` is started for a
run that was trained on features of the same encoders (CLIP ViT-B/32 at 8 frames a clip,
wav2vec2-base, full size, random weights). Both are whole processes; the best of several, taking
turns.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from extraction import checkpoints, clips

BARE = """
import sys, time
began = time.perf_counter()
import av, numpy as np, torch
from affuse.extractors import _torchvision
from affuse.extractors._pretrained import transformers
_torchvision.mend()
import open_clip
from safetensors.torch import load_file
library = transformers()
library.Wav2Vec2Model, library.Wav2Vec2FeatureExtractor
imported = time.perf_counter()
video, folder = sys.argv[1:]
torch.set_num_threads(len(__import__("os").sched_getaffinity(0)))
with torch.device("meta"):
    layout = open_clip.get_model_config("ViT-B-32")
    clip = open_clip.model._build_vision_tower(layout["embed_dim"], layout["vision_cfg"])
weights = load_file(f"{folder}/clip/open_clip_model.safetensors")
weights = {k.removeprefix("visual."): v for k, v in weights.items() if k.startswith("visual.")}
clip.load_state_dict(weights, assign=True)
process = open_clip.image_transform(224, is_train=False)
speech = library.Wav2Vec2Model.from_pretrained(f"{folder}/speech").eval()
extractor = library.Wav2Vec2FeatureExtractor.from_pretrained(f"{folder}/speech")
loaded = time.perf_counter()
resampler = av.AudioResampler("s16", "mono", 16_000)
pictures, pieces = [], []
with av.open(video) as container:
    every = container.duration / 1e6 / 8
    for frame in container.decode(video=0, audio=0):
        if isinstance(frame, av.AudioFrame):
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        elif frame.time >= (len(pictures) + 0.5) * every:
            pictures.append(frame.to_image())
samples = np.concatenate(pieces).astype(np.float32) / 32768
with torch.no_grad():
    clip.eval()(torch.stack([process(picture) for picture in pictures]))
    speech(extractor(samples, sampling_rate=16_000, return_tensors="pt").input_values)
done = time.perf_counter()
print(f"imports {imported - began:.2f}, loading {loaded - imported:.2f}, "
      f"decoding and forward passes {done - loaded:.2f} s wall", file=sys.stderr)
"""


def timed(command: list[str]) -> tuple[float, float]:
    """Run a process to its end; return wall and CPU seconds."""
    before, began = used(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    wall, cpu = time.monotonic() - began, used() - before
    if done.returncode:
        sys.exit(done.stderr)
    print(" ", (done.stdout + done.stderr).strip().splitlines()[-1][:100])
    return wall, cpu


def used() -> float:
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def trained(folder: Path, requests: list[str]) -> Path:
    """Train a small run on clips of the built-in corpus."""
    from affuse.cache.store import FeatureStore
    from affuse.corpora import demo
    from affuse.engines._extraction import extract
    from affuse.recipes.recipe import Recipe
    from affuse.training.cross_validation import train

    manifest = demo.make(folder / "corpus", n_speakers=4, n_repetitions=1)
    store = FeatureStore(folder / "features")
    extract(manifest, requests, store)
    recipe = Recipe.read("concat", override=["training.epochs=2", "training.folds=2"])
    train(recipe, manifest, store, folder / "run")
    return folder / "run"


def main() -> None:
    """Time both, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.processor()}, {cores} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests = checkpoints(folder)
        run = trained(folder, requests)
        if asked.video is None:
            clips(folder / "clips", 10)
        video = asked.video or folder / "clips" / "009.mp4"
        bare = [sys.executable, "-c", BARE, str(video), str(folder)]
        affuse = [
            str(Path(sys.executable).with_name("affuse")),
            "predict",
            str(run),
            str(video),
            "--features",
            str(folder / "features"),
        ]
        found = [(timed(bare), timed(affuse)) for _ in range(asked.times)]
    for i, kind in enumerate(("wall", "CPU")):
        least, ours = (min(pair[who][i] for pair in found) for who in (0, 1))
        print(f"bare {least:.2f}, affuse {ours:.2f} s {kind}: {ours / least:.2f}  (bar: 1.3, wall)")


if __name__ == "__main__":
    main()
