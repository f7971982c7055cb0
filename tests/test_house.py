"""The house stands as docs/architecture.md draws it."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    ["errors"],
    ["plugins"],
    ["manifest", "annotations", "tensors"],
    ["cache"],
    ["corpora", "media", "posteriors", "heads", "fusion"],
    ["extractors"],
    ["engines"],
    ["recipes"],
    ["training"],
    ["inference"],
    ["reports"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
GUESTS = {
    "h5py": ("cache/", "corpora/_csd.py"),
    "click": ("cli.py", "commands/"),
    "av": ("media/", "corpora/_demo_video.py"),
    "transformers": ("extractors/",),
    "open_clip": ("extractors/clip.py",),
    "whisper": ("extractors/whisper.py",),
    "matplotlib": ("reports/",),
    "jinja2": ("reports/",),
}
BANNED = {"pickle", "joblib", "dill", "shelve", "marshal"}
SOURCES = sorted(
    p.relative_to(ROOT) for p in [*ROOT.glob("*.py"), *(f for room in FLOOR for f in (ROOT / room).rglob("*.py"))]
)


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, relative ones resolved against the package."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ["affuse", *path.parts[:-1]]
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            found |= {name} if node.module else {f"{name}.{a.name}" for a in node.names}
    return found


def room(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else path.stem


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_point_down_and_guests_stay_in_their_room(path: Path) -> None:
    for name in imports(path):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top == "affuse" and target in FLOOR and target != room(path):
            assert FLOOR[target] < FLOOR[room(path)], f"{path} imports {name}"
        if top in GUESTS:
            assert path.as_posix().startswith(GUESTS[top]), f"{path} imports {name}"
        assert top not in BANNED, f"{path} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_runs_strangers_code(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in {"eval", "exec", "torch.load", "os.system"}, f"{path}:{node.lineno}"
        for word in node.keywords:
            risky = {"allow_pickle", "shell", "trust_remote_code"}
            allowed = isinstance(word.value, ast.Constant) and word.value.value is False
            assert word.arg not in risky or allowed or not isinstance(word.value, ast.Constant), (
                f"{path}:{node.lineno} {word.arg}"
            )


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_keep_below_the_wall(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8").count("\n") <= 500


def test_every_room_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {f"affuse.{p.parent.name}" for p in ROOT.glob("*/__init__.py")} - {"affuse.tests"}
    assert set(settings["packages"]) == rooms | {"affuse"}


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import affuse", {"torch", "numpy", "click", "h5py"}),
        ("import affuse.cli", {"torch", "numpy", "h5py", "transformers", "sklearn", "av", "cv2", "pyarrow"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str, heavy: set[str]) -> None:
    code = f"{statement}; import sys; print(*sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert not heavy & set(child.stdout.split())
