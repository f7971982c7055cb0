"""Strict conversion of TOML tables into frozen dataclasses and back.

Reading collects all problems of a file, so that one message can name all of them. Nothing is guessed or converted
silently, except a whole number where a number is expected.
"""

import collections.abc
import json
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from .. import plugins
from ..errors import RecipeError, suggestion

T = typing.TypeVar("T")

DESCRIPTIONS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", type(None): "nothing"}


def read_table(kind: type[T], name: str, table: Any, problems: list[str]) -> T:
    """Return a dataclass with the values of a table, and defaults for absent or wrong ones.

    The annotations of its fields are the expected types. Problems of the table are appended to `problems`.
    """
    if not isinstance(table, dict):
        problems.append(f"Found {name} = {_quote(table)}, expected a section [{name}].")
        return kind()
    expected = typing.get_type_hints(kind)
    values = {}
    for key, value in table.items():
        if key not in expected:
            problems.append(f"[{name}] has no key {key!r}; {suggestion(key, expected)}")
            continue
        try:
            values[key] = convert(value, expected[key])
        except ValueError as error:
            problems.append(f"Found {name}.{key} = {_quote(value)}, expected {error}.")
    return kind(**values)


def option_problems(
    plugin: Callable[..., Any], section: str, options: Mapping[str, Any], *, owner: str = ""
) -> list[str]:
    """Return the problems of the options of a plug-in: unknown options and values of a wrong type.

    Messages name the `section` of the recipe, and for unknown options the `owner` of the option if it is given.
    """
    known = plugins.options(plugin)
    function = plugin.__init__ if isinstance(plugin, type) else plugin  # type: ignore[misc]
    try:
        expected = typing.get_type_hints(function, include_extras=True)
    except NameError:  # annotations of an external plug-in that exist for type checkers only
        expected = {}
    problems = []
    for key, value in options.items():
        if key not in known:
            problems.append(f"{owner or section} has no option {key!r}; {suggestion(key, known)}")
            continue
        nested = [kind for kind in get_args(expected.get(key)) if get_origin(kind) is Annotated]
        if nested and isinstance(value, dict):
            problems += option_problems(get_args(nested[0])[1], f"{section}.{key}", value)
            continue
        try:
            convert(value, expected.get(key, Any))
        except ValueError as error:
            problems.append(f"Found {section}.{key} = {_quote(value)}, expected {error}.")
    return problems


def convert(value: Any, expected: Any) -> Any:
    """Return a TOML value as the type of an annotation; arrays become tuples.

    A type that TOML cannot express is not checked. The message of a ValueError describes the expected type.
    """
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (dict, collections.abc.Mapping, Annotated):
        if not isinstance(value, dict):
            raise ValueError("a table, such as { NAME = VALUE }")
        return value
    if origin in (tuple, list, collections.abc.Sequence):
        if not isinstance(value, list):
            raise ValueError("a list")
        if origin is tuple and arguments[1:] != (...,):
            return tuple(value)
        return tuple(convert(item, arguments[0]) for item in value)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise ValueError(f"one of {', '.join(map(str, arguments))}")
        return value
    if origin in (types.UnionType, typing.Union):
        descriptions = []
        for kind in arguments:
            try:
                return convert(value, kind)
            except ValueError as error:
                descriptions.append(str(error))
        raise ValueError(" or ".join(descriptions))
    if expected is Any or not isinstance(expected, type):
        return value
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ValueError(DESCRIPTIONS.get(expected, expected.__name__))
    return value


def set_value(table: dict[str, Any], item: str) -> None:
    """Set a value in a table, in place, from ``section.key=value`` in the notation of TOML.

    Sections may be nested, and a bare word is a string.
    """
    place, equals, text = item.partition("=")
    *sections, key = place.strip().split(".")
    if not (equals and key and sections and all(sections)):
        raise RecipeError(f"Found --set {item}, expected section.key=value, such as training.epochs=20.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for name in sections:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {item}: {name!r} is a value, not a section.")
    table[key] = value


def format_value(value: Any) -> str:
    """Return a value in the notation of TOML."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(k)} = {format_value(v)}' for k, v in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)


def _quote(value: Any) -> str:
    return json.dumps(value, default=str)
