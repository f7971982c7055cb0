"""The tutorial's commands run as written and print what the tutorial shows, except for the numbers."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def shape(text: str) -> list[str]:
    """Return the lines of an output without numbers, padding and the lines of progress bars."""
    lines = text.replace("\r", "\n").splitlines()
    found = [re.sub(r"\s+", " ", re.sub(r"[+-]?\d[\d.]*", "N", line)).strip() for line in lines if "clip/s" not in line]
    return [line for line in found if line and "%|" not in line]


def test_every_step_prints_what_the_tutorial_shows(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    output = None
    for language, block in re.findall(r"^```(python|sh|text)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        if language == "text":
            assert output is not None and shape(output) == shape(block), f"found:\n{output}\nexpected:\n{block}"
            continue
        command = [sys.executable, "-c", block] if language == "python" else ["bash", "-ec", block]
        child = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output = child.stdout
        assert child.returncode == 0, f"$ {block}\n{output}"
