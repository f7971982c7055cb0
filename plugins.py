"""Plug-in lookup: the files of a package are the list of its plug-ins.

In corpora/, extractors/, engines/, fusion/ and heads/, a file without a leading underscore is a
plug-in; it ends with ``plugin = TheClass``. The options of a plug-in are the keyword-only arguments
of its class, so that a misspelt option is rejected with a suggestion. A class outside of affuse is
named by its dotted path, ``package.module.Class``, wherever a plug-in is named. The names of
modalities, which plug-ins declare, are checked here too.
"""

import importlib
import importlib.resources
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from .errors import AffuseError, UnknownName, UnknownOption

PACKAGES = {"corpus": "corpora", "encoder": "extractors", "engine": "engines", "fusion": "fusion", "head": "heads"}
"""Package of each kind of plug-in."""
LISTS = {"encoders": "encoder", "engines": "engine", "fusions": "fusion", "heads": "head", "corpora": "corpus"}
"""Kind of the plug-ins in each list of `affuse list`."""
MODALITY = re.compile(r"[a-z][a-z0-9_]*")


def names(kind: str) -> list[str]:
    """Return the names of the plug-ins of a kind, a key of `PACKAGES`."""
    package = importlib.import_module(f".{PACKAGES[kind]}", __package__)
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def find(kind: str, name: str) -> Any:
    """Return the plug-in class with a name or the dotted path of a class, importing its file only.

    Raises
    ------
    UnknownName
        There is no such plug-in; the message suggests the nearest name.
    """
    if "." in name:
        module, _, attribute = name.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            hint = ""
            if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
                hint = " on PYTHONPATH; try PYTHONPATH=. before the command"
            raise UnknownName(kind, f"{name} ({error}{hint})", names(kind)) from error
    if name not in names(kind):
        raise UnknownName(kind, name, names(kind))
    return importlib.import_module(f".{PACKAGES[kind]}.{name}", __package__).plugin


def options(plugin: Any) -> dict[str, Any]:
    """Return the options of a plug-in, its keyword-only arguments, with their defaults."""
    return {name: parameter.default for name, parameter in parameters(plugin).items()}


def parameters(plugin: Any) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a plug-in class, or of a class method that makes an object of it.

    A class method with ``**options`` passes them to the constructor, whose parameters are returned as well.
    """
    found: dict[str, inspect.Parameter] = {}
    for parameter in inspect.signature(plugin).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            found[parameter.name] = parameter
        elif parameter.kind is parameter.VAR_KEYWORD and inspect.isclass(getattr(plugin, "__self__", None)):
            found |= parameters(plugin.__self__)
    return found


def build(kind: str, name: str, *data: Any, settings: Mapping[str, Any]) -> Any:
    """Return a new object of a plug-in class, made of positional arguments and options.

    Raises
    ------
    UnknownName, UnknownOption
        There is no such plug-in, or it does not take an option; the message suggests the nearest
        name.
    """
    plugin = find(kind, name)
    known = options(plugin)
    unknown = [option for option in settings if option not in known]
    if unknown:
        raise UnknownOption(name, unknown, known)
    return plugin(*data, **settings)


def catalogue(plural: str) -> list[dict[str, str]]:
    """Return the rows of one list of `affuse list`, a key of `LISTS` or ``recipes``.

    All rows have the same columns, ``name`` and ``about`` among them. A plug-in class may define a
    class method ``catalogue`` that returns its rows; otherwise the first line of its docstring is
    shown.
    """
    if plural == "recipes":
        recipes = importlib.resources.files(__package__) / "recipes"
        return [
            {"name": p.name.removesuffix(".toml"), "about": tomllib.loads(p.read_text("utf-8")).get("about", "")}
            for p in sorted(recipes.iterdir(), key=str)
            if p.name.endswith(".toml")
        ]
    rows: list[dict[str, str]] = []
    for name in names(LISTS[plural]):
        plugin = find(LISTS[plural], name)
        about = {"about": (inspect.getdoc(plugin) or "").partition("\n")[0]}
        own = plugin.catalogue() if hasattr(plugin, "catalogue") else [about]
        rows += [{"name": name} | row for row in own]
    return rows


def list_corpora() -> list[dict[str, str]]:
    """Return name and description of every corpus that can be read."""
    return catalogue("corpora")


def list_encoders() -> list[dict[str, str]]:
    """Return name, modality, dimension, rate, size, licence and description of encoders and checkpoints."""
    return catalogue("encoders")


def list_engines() -> list[dict[str, str]]:
    """Return name and description of every engine that can run an extraction."""
    return catalogue("engines")


def list_fusions() -> list[dict[str, str]]:
    """Return name, modalities and description of every fusion."""
    return catalogue("fusions")


def list_heads() -> list[dict[str, str]]:
    """Return name and description of every head."""
    return catalogue("heads")


def list_recipes() -> list[dict[str, str]]:
    """Return name and description of every recipe."""
    return catalogue("recipes")


def described(plural: str, name: str) -> str:
    """Return the docstring and the default options of a plug-in of a list, or the TOML text of a recipe.

    Raises
    ------
    UnknownName
        The list contains no such name.
    """
    if plural == "recipes":
        recipe = importlib.resources.files(__package__) / "recipes" / f"{name}.toml"
        known = [row["name"] for row in catalogue(plural)]
        if name not in known:
            raise UnknownName("recipe", name, known)
        return recipe.read_text("utf-8").rstrip()
    kind, name = LISTS[plural], name.partition(":")[0]
    if name not in names(kind):
        raise UnknownName(kind, name, names(kind))
    plugin = find(kind, name)
    maker = getattr(plugin, "from_pretrained", plugin)
    defaults = ", ".join(f"{option} = {value!r}" for option, value in options(maker).items())
    return f"{inspect.getdoc(plugin)}\n\nDefaults: {defaults or 'no options'}"


def check_modality(name: str, error: type[AffuseError]) -> str:
    """Return the name of a modality if it is one lower-case word; otherwise raise the given error.

    >>> check_modality("text", AffuseError)
    'text'
    """
    if not MODALITY.fullmatch(name):
        raise error(
            f"Found the modality {name!r}; expected one lower-case word, such as audio, visual, text or physio."
        )
    return name


def modality_of(stream: str) -> str:
    """Return the modality that the name of a stream begins with.

    >>> modality_of("audio:whisper")
    'audio'
    """
    return stream.partition(":")[0]
