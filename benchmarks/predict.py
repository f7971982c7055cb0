"""Time of the first prediction for one recording, compared with a minimal script without affuse's services.

``python benchmarks/predict.py``              synthetic clip of 5 s, 720p with sound
``python benchmarks/predict.py --video FILE`` a recording of yours

The minimal script imports the libraries, loads both encoders from disk, decodes the clip and runs the encoders once.
It checks nothing, writes nothing and predicts nothing. `affuse predict` uses a run that was trained on features of the
same encoders (CLIP ViT-B/32 at 8 frames per clip and wav2vec2-base, full size, random weights). Both are timed as
whole processes, alternately; the best of several times counts.
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

MINIMAL = """
import sys, time
began = time.perf_counter()
import av, numpy as np, torch
from affuse.extractors import _torchvision
from affuse.extractors._transformers import transformers
_torchvision.declare_missing_operators()
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
    step = container.duration / 1e6 / 8
    for frame in container.decode(video=0, audio=0):
        if isinstance(frame, av.AudioFrame):
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        elif frame.time >= (len(pictures) + 0.5) * step:
            pictures.append(frame.to_image())
samples = np.concatenate(pieces).astype(np.float32) / 32768
with torch.no_grad():
    clip.eval()(torch.stack([process(picture) for picture in pictures]))
    speech(extractor(samples, sampling_rate=16_000, return_tensors="pt").input_values)
done = time.perf_counter()
print(f"imports {imported - began:.2f}, loading {loaded - imported:.2f}, "
      f"decoding and forward passes {done - loaded:.2f} s wall", file=sys.stderr)
"""


def run_timed(command: list[str]) -> tuple[float, float]:
    """Run a process to its end; return wall and CPU seconds."""
    before, start = child_seconds(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    wall, cpu = time.monotonic() - start, child_seconds() - before
    if done.returncode:
        sys.exit(done.stderr)
    print(" ", (done.stdout + done.stderr).strip().splitlines()[-1][:100])
    return wall, cpu


def child_seconds() -> float:
    """Return the CPU seconds of all finished child processes."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def train_run(folder: Path, requests: list[str]) -> Path:
    """Train a small run on features of the built-in corpus."""
    import affuse

    manifest = affuse.make_demo_corpus(folder / "corpus", n_speakers=4, n_repetitions=1)
    store = affuse.FeatureStore(folder / "features")
    affuse.extract(manifest, requests, store)
    recipe = affuse.Recipe.read("concat", override=["training.epochs=2", "training.folds=2"])
    return affuse.train(recipe, manifest, store, out=folder / "run").path


def main() -> None:
    """Time both processes and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, help="Recording to predict. Default: a synthetic clip.")
    parser.add_argument("--times", type=int, default=3, help="Number of repetitions.")
    options = parser.parse_args()
    print(f"{platform.processor()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = train_run(folder, checkpoints(folder))
        if options.video is None:
            clips(folder / "clips", 10)
        video = options.video or folder / "clips" / "009.mp4"
        minimal = [sys.executable, "-c", MINIMAL, str(video), str(folder)]
        program = str(Path(sys.executable).with_name("affuse"))
        affuse = [program, "predict", str(run), str(video), "--features", str(folder / "features"), "--device", "cpu"]
        seconds = [(run_timed(minimal), run_timed(affuse)) for _ in range(options.times)]
    for i, kind in enumerate(("wall", "CPU")):
        best, ours = (min(pair[program][i] for pair in seconds) for program in (0, 1))
        print(f"minimal {best:.2f} s, affuse {ours:.2f} s {kind}: {ours / best:.2f}  (limit: 1.3, wall)")


if __name__ == "__main__":
    main()
