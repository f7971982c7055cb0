"""Every command of the README runs as written, in its order, on a small corpus.

The hub cannot be reached from here: a small checkpoint lies in its cache under the name that the
README uses, and CLIP at its full size with random weights, so that the code that loads from the
hub runs to its end.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints import speech

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMIT = "0" * 39 + "1"
# This needs an environment of its own; .ci/run makes one.
ELSEWHERE = {"pip install ."}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def in_hub_cache(cache: Path, repository: str) -> Path:
    home = cache / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    snapshot = home / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    return snapshot


def write_clip_tower(folder: Path) -> None:
    from affuse.extractors._torchvision import declare_missing_operators

    declare_missing_operators()
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None)
    weights = {n: w.half().contiguous() for n, w in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader of the README has it: VIDEOS/, features of another tool, a hub cache."""
    from affuse.corpora.demo import make_demo_corpus

    folder = tmp_path_factory.mktemp("readme")
    make_demo_corpus(folder, n_speakers=5, n_repetitions=1)
    (folder / "media").rename(folder / "VIDEOS")
    (folder / "manifest.csv").unlink()
    (folder / "elsewhere").mkdir()
    for video in (folder / "VIDEOS").iterdir():
        np.save(folder / "elsewhere" / f"{video.stem}.npy", np.ones((3, 8), np.float32))
    cache = folder / "hub"
    speech(in_hub_cache(cache, "facebook/wav2vec2-base-960h"), "Wav2Vec2", large=False)
    write_clip_tower(in_hub_cache(cache, "timm/vit_base_patch32_clip_224.openai"))
    return folder


def run(script: str, desk: Path, *interpreter: str) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HUB_CACHE": str(desk / "hub"), "HF_HOME": str(desk / "home")}
    child = subprocess.run([*interpreter, script], cwd=desk, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, f"$ {script}\n{child.stdout}{child.stderr}"


def test_commands_run_as_written(desk: Path) -> None:
    commands = [line for block in blocks("sh") for line in block.strip().splitlines()]
    assert set(commands) >= ELSEWHERE
    for command in commands:
        if command not in ELSEWHERE:
            run(command, desk, "bash", "-ec")
    assert (desk / "report.html").stat().st_size > 10_000
    assert (desk / "timeline").is_dir()
    for script in blocks("python"):
        run(script, desk, sys.executable, "-c")


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_every_figure_names_its_benchmark() -> None:
    for script in re.findall(r"benchmarks/\w+\.py", README):
        assert (ROOT / script).exists(), script
