"""The front door: ``import affuse`` offers what the documentation uses, lazily."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import affuse

ROOT = Path(__file__).resolve().parents[1]
LISTED = (
    "Manifest scan read_corpus load_encoder FeatureStore extract train predict combine Posterior evaluate write_report "
    "EmotionClassifier list_encoders list_fusions list_heads list_corpora list_recipes list_engines "
    "Clip Corpus Encoder Fusion Head Sound Frames Stream Fused Width Targets"
).split()
"""Names that docs/architecture.md promises."""


def stub_names() -> set[str]:
    tree = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
    return {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}


@pytest.mark.parametrize("name", LISTED)
def test_every_promised_name_is_public(name: str) -> None:
    assert name in affuse.__all__


def test_all_is_complete() -> None:
    assert set(affuse.__all__) == stub_names() | {"__version__"}
    assert set(affuse.__all__) - {"__version__"} <= set(dir(affuse))


@pytest.mark.parametrize("name", sorted(set(affuse.__all__) - {"__version__", "errors"}))
def test_every_public_name_can_be_used_and_is_documented(name: str) -> None:
    found = getattr(affuse, name)
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        parameters = inspect.signature(found).parameters.values()
        assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters)


def test_the_api_page_lists_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^::: affuse\.(\w+)$", page, re.MULTILINE))
    assert listed == set(affuse.__all__) - {"__version__"}


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="extrct"):
        affuse.extrct  # noqa: B018
