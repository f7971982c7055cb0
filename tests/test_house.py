"""Rules of the code base: who imports whom, one home per name, plain docstrings, help for every option."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from affuse.cli import main

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
FLOOR = {package: height for height, packages in enumerate(FLOORS) for package in packages}
THIRD_PARTY = {
    "h5py": ("cache/", "corpora/_csd.py"),
    "click": ("cli.py", "commands/"),
    "av": ("media/", "corpora/_demo_video.py"),
    "transformers": ("extractors/",),
    "open_clip": ("extractors/clip.py",),
    "whisper": ("extractors/whisper.py",),
    "ray": ("engines/ray.py",),
    "submitit": ("engines/slurm.py",),
    "matplotlib": ("reports/",),
    "jinja2": ("reports/",),
}
BANNED = {"pickle", "joblib", "dill", "shelve", "marshal"}
SOURCES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.py"), *(file for package in FLOOR for file in (ROOT / package).rglob("*.py"))]
)
RUN_FILES = {"run.json", "recipe.toml", "out-of-fold.csv", "models", "posteriors"}
"""Names of files and folders inside a run, which only RunFolder may put together."""
QUESTION = re.compile(r"(What|How|Which|Where|Of)\b")


def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, relative ones resolved against the package."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ["affuse", *path.parts[:-1]]
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def package_of(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else path.stem


def module_of(path: Path) -> str:
    return ".".join(["affuse", *path.with_suffix("").parts])


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_point_down_and_third_parties_stay_in_their_package(path: Path) -> None:
    for name in imports(path):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top == "affuse" and target in FLOOR and target != package_of(path):
            assert FLOOR[target] < FLOOR[package_of(path)], f"{path} imports {name}"
        if top in THIRD_PARTY:
            assert path.as_posix().startswith(THIRD_PARTY[top]), f"{path} imports {name}"
        assert top not in BANNED, f"{path} imports {name}"


def test_no_package_has_an_import_cycle() -> None:
    modules = {module_of(path) for path in SOURCES}
    arrows = {module_of(path): set(imports(path)) & modules - {module_of(path)} for path in SOURCES}
    while leaves := {module for module, targets in arrows.items() if not targets}:
        arrows = {module: targets - leaves for module, targets in arrows.items() if module not in leaves}
    assert not arrows, f"these modules import each other in a circle: {sorted(arrows)}"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_code_of_strangers_is_executed(path: Path) -> None:
    for node in ast.walk(parse(path)):
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


def test_every_class_has_one_home() -> None:
    homes = defaultdict(list)
    for path in SOURCES:
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path))
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


def test_every_public_function_has_one_home_in_its_package() -> None:
    homes = defaultdict(list)
    for path in SOURCES:
        if package_of(path) == "commands":  # each verb's function is called ``command``
            continue
        for node in parse(path).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                homes[package_of(path), node.name].append(str(path))
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_paths_inside_a_run_are_built_by_one_class(path: Path) -> None:
    if path.as_posix() == "posteriors/run_folder.py":
        return
    for node in ast.walk(parse(path)):
        joins = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if joins and isinstance(node.right, ast.Constant):
            assert node.right.value not in RUN_FILES, f"{path}:{node.lineno} builds a path inside a run"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_docstrings_do_not_begin_with_a_question_word(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            assert not QUESTION.match(first), f"{path}:{getattr(node, 'lineno', 1)} {first}"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_have_at_most_500_lines(path: Path) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text.count("\n") <= 500
    assert "fmt: skip" not in text and "fmt: off" not in text


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from commands(found, f"{name} {below}")


def test_every_option_and_command_has_help() -> None:
    for name, command in commands(main, "affuse"):
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.hidden or parameter.help, f"{name} {parameter.opts}"


def test_device_means_the_same_for_every_command() -> None:
    for name, command in commands(main, "affuse"):
        for parameter in command.params:
            if parameter.name == "device":
                assert parameter.default == "auto", name


def test_every_package_is_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {f"affuse.{path.parent.name}" for path in ROOT.glob("*/__init__.py")} - {"affuse.tests"}
    assert set(settings["packages"]) == packages | {"affuse"}


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_documentation_imports_the_public_api_only(page: Path) -> None:
    for line in page.read_text(encoding="utf-8").splitlines():
        found = re.match(r"\s*(?:from|import) (affuse[\w.]*)", line)
        if found:
            assert found[1] in ("affuse", "affuse.errors"), f"{page.name}: {line.strip()}"


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return set(child.stdout.split())


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import affuse", {"torch", "transformers", "numpy", "pandas", "click", "h5py"}),
        ("import affuse.cli", {"torch", "numpy", "pandas", "h5py", "transformers", "sklearn", "av", "cv2", "pyarrow"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str, heavy: set[str]) -> None:
    assert not heavy & loaded_after(statement)
