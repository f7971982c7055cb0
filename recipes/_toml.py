"""TOML tables into frozen dataclasses and back, strictly: every fault is told, none is guessed."""

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


def section(kind: type[T], name: str, table: Any, faults: list[str]) -> T:
    """Return a section's values, defaults where it says none; what is wrong goes to `faults`."""
    if not isinstance(table, dict):
        faults.append(f"{name} = {table!r}; wanted a section [{name}]")
        return kind()
    wanted = typing.get_type_hints(kind)
    values = {}
    for key, value in table.items():
        if key not in wanted:
            faults.append(f"[{name}] takes no {key!r}; {suggestion(key, wanted)}")
            continue
        try:
            values[key] = fitted(value, wanted[key])
        except ValueError as error:
            faults.append(f"{name}.{key} = {json.dumps(value, default=str)}; wanted {error}")
    return kind(**values)


def option_faults(maker: Callable[..., Any], where: str, settings: Mapping[str, Any]) -> list[str]:
    """Say which options something that is called does not take, or not so."""
    called = maker.__init__ if isinstance(maker, type) else maker  # type: ignore[misc]
    known = plugins.options(maker)
    try:
        wanted = typing.get_type_hints(called, include_extras=True)
    except NameError:  # somebody's own plug-in, with names for type checkers alone
        wanted = {}
    faults = []
    for key, value in settings.items():
        if key not in known:
            faults.append(f"{where} takes no {key!r}; {suggestion(key, known)}")
            continue
        within = [k for k in get_args(wanted.get(key)) if get_origin(k) is Annotated]
        if within and isinstance(value, dict):
            faults += option_faults(get_args(within[0])[1], f"{where}.{key}", value)
            continue
        try:
            fitted(value, wanted.get(key, Any))
        except ValueError as error:
            said = json.dumps(value, default=str)
            faults.append(f"{where}.{key} = {said}; wanted {error}")
    return faults


def fitted(value: Any, wanted: Any) -> Any:
    """Return the value as the type wants it; ValueError says what was wanted."""
    origin = get_origin(wanted)
    if origin in (dict, collections.abc.Mapping, Annotated):
        if not isinstance(value, dict):
            raise ValueError("a table, such as { NAME = VALUE }")
        return value
    if origin in (tuple, list, collections.abc.Sequence):
        if not isinstance(value, list):
            raise ValueError("a list")
        kinds = get_args(wanted)
        if origin is tuple and kinds[1:] != (...,):
            return tuple(value)
        return tuple(fitted(item, kinds[0]) for item in value)
    if origin is Literal:
        if value not in get_args(wanted) or isinstance(value, bool):
            raise ValueError(f"one of {', '.join(map(str, get_args(wanted)))}")
        return value
    if origin in (types.UnionType, typing.Union):
        told = []
        for kind in get_args(wanted):
            try:
                return fitted(value, kind)
            except ValueError as error:
                told.append(str(error))
        raise ValueError(" or ".join(told))
    if wanted is Any or not isinstance(wanted, type):
        return value  # there is nothing to hold it to
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        words = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            str: "a string",
            type(None): "nothing",
        }
        raise ValueError(words.get(wanted, wanted.__name__))
    return value


def put(table: dict[str, Any], item: str) -> None:
    """Put ``section.key=value`` into a table, sections within sections too.

    Raises
    ------
    RecipeError
        Not of that form, or no section.
    """
    place, equals, text = item.partition("=")
    *sections, key = place.strip().split(".")
    if not (equals and key and sections and all(sections)):
        raise RecipeError(f"--set {item}: wanted section.key=value, such as training.epochs=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for name in sections:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {item}: {name!r} is not a section")
    table[key] = value


def spelled(value: Any) -> str:
    """Return a value as TOML spells it."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(spelled, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(k)} = {spelled(v)}' for k, v in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)
