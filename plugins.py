"""The folder is the list: a plain file in a room is a plug-in, one with an underscore is not.

Each plug-in file ends with ``plugin = TheClass``. Its options are the keyword-only arguments of the
class, so a typo can be answered. From outside, a dotted path ``package.module.Class`` stands
wherever a name does.
"""

import importlib
import importlib.resources
import inspect
import pkgutil
import tomllib
from collections.abc import Mapping
from typing import Any

from .errors import UnknownName, UnknownOption

ROOMS = {"corpus": "corpora", "encoder": "extractors", "fusion": "fusion", "head": "heads"}
SINGULAR = {"encoders": "encoder", "fusions": "fusion", "heads": "head", "corpora": "corpus"}


def names(kind: str) -> list[str]:
    """List the plug-ins of a kind: ``corpus``, ``encoder``, ``fusion`` or ``head``."""
    room = importlib.import_module(f".{ROOMS[kind]}", __package__)
    found = (module.name for module in pkgutil.iter_modules(room.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def find(kind: str, name: str) -> Any:
    """Return the plug-in class of that name, importing its file alone.

    Raises
    ------
    UnknownName
        Nothing is called so; the message offers the nearest name.
    """
    if "." in name:
        module, _, attribute = name.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            where = ""
            if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
                where = " on PYTHONPATH; try PYTHONPATH=. before the command"
            raise UnknownName(kind, f"{name} ({error}{where})", names(kind)) from error
    if name not in names(kind):
        raise UnknownName(kind, name, names(kind))
    return importlib.import_module(f".{ROOMS[kind]}.{name}", __package__).plugin


def options(plugin: Any) -> dict[str, Any]:
    """Return the options of a plug-in, its keyword-only arguments, with their defaults."""
    parameters = inspect.signature(plugin).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def build(kind: str, name: str, *data: Any, settings: Mapping[str, Any]) -> Any:
    """Make the plug-in: `data` are its positional arguments, `settings` its options.

    Raises
    ------
    UnknownName, UnknownOption
        With the nearest right one.
    """
    plugin = find(kind, name)
    known = options(plugin)
    wrong = [option for option in settings if option not in known]
    if wrong:
        raise UnknownOption(name, wrong, known)
    return plugin(*data, **settings)


def catalogue(kind: str) -> list[dict[str, str]]:
    """Return what `affuse list` shows of encoders, fusions, heads, corpora or recipes.

    Returns
    -------
    list of dict
        Rows of one set of columns. A plug-in class may have a ``catalogue`` of its own, rows
        without the column ``name`` or several with it; else its docstring's first line is shown.
    """
    if kind == "recipes":
        recipes = importlib.resources.files(__package__) / "recipes"
        paths = sorted((p for p in recipes.iterdir() if p.name.endswith(".toml")), key=str)
        return [
            {"name": p.name.removesuffix(".toml"), "about": tomllib.loads(p.read_text("utf-8")).get("about", "")}
            for p in paths
        ]
    rows: list[dict[str, str]] = []
    for name in names(SINGULAR[kind]):
        plugin = find(SINGULAR[kind], name)
        about = {"about": (inspect.getdoc(plugin) or "").partition("\n")[0]}
        own = plugin.catalogue() if hasattr(plugin, "catalogue") else [about]
        rows += [{"name": name} | row for row in own]
    return rows


def described(kind: str, name: str) -> str:
    """Return what `affuse list` says of one of them: its docstring and defaults; of a recipe, all.

    Raises
    ------
    UnknownName
        Nothing is called so.
    """
    if kind == "recipes":
        recipe = importlib.resources.files(__package__) / "recipes" / f"{name}.toml"
        known = [row["name"] for row in catalogue(kind)]
        if name not in known:
            raise UnknownName("recipe", name, known)
        return recipe.read_text("utf-8").rstrip()
    name = name.partition(":")[0]
    if name not in names(SINGULAR[kind]):
        raise UnknownName(SINGULAR[kind], name, names(SINGULAR[kind]))
    plugin = find(SINGULAR[kind], name)
    made = getattr(plugin, "from_pretrained", plugin)
    defaults = ", ".join(f"{option} = {value!r}" for option, value in options(made).items())
    return f"{inspect.getdoc(plugin)}\n\nDefaults: {defaults or 'it takes no option'}"
