"""Recipes: what a run trains, as a TOML file with the sections targets, streams, fusion, head and training.

A recipe describes the system; paths, devices and workers are options of the command. Reading is strict: one message
names every unknown key, wrong type and value out of range, and suggests the nearest known name.
"""

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .. import plugins
from ..cache._commit import write_text
from ..errors import AffuseError, RecipeError, check_known, listing, suggestion
from ..posteriors import metrics
from ._toml import format_value, option_problems, read_table, set_value
from .encoder_settings import AugmentationSettings, EncoderSettings
from .window_settings import WindowSettings

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class TargetSettings:
    """Section ``[targets]``: the targets to predict.

    Attributes
    ----------
    emotion : bool
        Whether the emotion is predicted.
    dimensions : tuple of str
        Columns of the manifest to predict, such as ``valence``; those without any annotation are left out.
    """

    emotion: bool = True
    dimensions: tuple[Literal["valence", "arousal"], ...] = ("valence",)


@dataclass(frozen=True)
class StreamSettings:
    """Section ``[streams]``: the streams that enter the fusion, and their preparation.

    Attributes
    ----------
    modalities : tuple of str
        Modalities to use; empty: all given streams.
    standardise : {"none", "train", "speaker"}
        ``train``: by mean and deviation of the training fold, which are saved with the model. ``speaker``: each clip
        over all clips of its speaker, then as ``train``; this uses no labels, but needs the clips of the speaker at
        prediction too.
    layers : "mix" or int
        Where the layers of an encoder are kept apart: ``mix`` trains softmax weights, a number selects one layer.
    pool : tuple of {"mean", "std"}
        For heads on pooled features: statistics over time, side by side.
    """

    modalities: tuple[str, ...] = ()
    standardise: Literal["none", "train", "speaker"] = "train"
    layers: Literal["mix"] | int = "mix"
    pool: tuple[Literal["mean", "std"], ...] = ("mean",)


@dataclass(frozen=True)
class PluginSettings:
    """Section ``[fusion]`` or ``[head]``: the name of a plug-in and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingSettings:
    """Section ``[training]``: optimisation, regularisation and cross-validation.

    Attributes
    ----------
    epochs, batch : int
        Number of epochs, and of clips in a batch.
    learning_rate, weight_decay : float
        Settings of AdamW; biases, norms and scalars such as uncertainties do not decay.
    warmup : float
        Number of epochs in which the learning rate rises linearly.
    schedule : {"cosine", "constant"}
        Learning rate after the warm-up: a cosine to zero, or constant.
    patience : int
        Number of epochs without a better validation score after which training stops; the best epoch is kept.
        Validation clips are taken from the *training folds*, speaker-independently. 0: all epochs on all training
        clips.
    validation : float
        Share of the training clips used for validation where there is patience.
    select : str
        Metric of the validation score, such as ``waf``.
    clip : float
        Largest gradient norm; 0: no limit.
    ema : float
        Decay per step of an exponential moving average of the weights, which is kept instead of the last weights; 0:
        no average.
    noise : float
        Standard deviation of Gaussian noise on the standardised features in training.
    frame_dropout : float
        Share of the steps that are masked in training.
    modality_dropout : {"none", "softhard"}
        ``softhard``: each batch is used as it is, with its modalities scaled against each other, and with each
        modality alone (Chumachenko, Iosifidis and Gabbouj 2022).
    balanced : bool
        Whether clips are drawn so that emotions are equally frequent.
    precision : {"float32", "bfloat16", "float16"}
        Precision of forward passes, on devices where a lower one is fast.
    accumulate : int
        Number of parts in which a batch is computed: less memory, the same step.
    seeds, seed : int
        Number of models per fold, and the seed of the first; the others follow it.
    folds : int
        Number of folds where the manifest has none.
    """

    epochs: int = 40
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 1.0
    schedule: Literal["cosine", "constant"] = "cosine"
    patience: int = 0
    validation: float = 0.2
    select: str = "mer2023"
    clip: float = 1.0
    ema: float = 0.0
    noise: float = 0.0
    frame_dropout: float = 0.0
    modality_dropout: Literal["none", "softhard"] = "none"
    balanced: bool = False
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    accumulate: int = 1
    seeds: int = 1
    seed: int = 0
    folds: int = 5

    def problems(self) -> list[str]:
        """Return a message for every value that is unknown or out of range."""
        found = []
        for key, value in dataclasses.asdict(self).items():
            if key in ("epochs", "batch", "seeds", "accumulate") and value < 1:
                found.append(f"Found training.{key} = {value}, expected at least 1.")
            elif key in ("validation", "ema", "frame_dropout") and not 0 <= value < 1:
                found.append(f"Found training.{key} = {value}, expected a share from 0 to below 1.")
            elif key == "folds" and value < 2:
                found.append(f"Found training.folds = {value}, expected at least 2.")
            elif isinstance(value, (int, float)) and value < 0:
                found.append(f"Found training.{key} = {value}, expected no negative number.")
        known = [metric.name for metric in metrics.METRICS]
        if self.select not in known:
            found.append(f"training.select names no metric: {self.select!r}; {suggestion(self.select, known)}")
        if self.patience and not self.validation:
            found.append("training.patience needs clips for validation. Set training.validation above 0.")
        return found


@dataclass(frozen=True)
class CombineSettings:
    """Section ``[combine]``: the rule that combines the posteriors of members. No rule is fitted, so none can leak."""

    rule: Literal["mean", "geometric", "entropy", "majority", "median"] = "mean"


@dataclass(frozen=True)
class Recipe:
    """A recipe of one system, or of several members and their combination.

    Attributes
    ----------
    name : str
        Name of the recipe.
    about : str
        One line, shown by `affuse list recipes`.
    targets : TargetSettings
    streams : StreamSettings
    fusion : PluginSettings or None
        None for heads on pooled features, and for recipes of members.
    head : PluginSettings or None
        None for recipes of members.
    training : TrainingSettings
    windows : WindowSettings or None
        Settings for dimensions over time; None for one prediction per clip.
    encoders : mapping of str to EncoderSettings
        Encoders of the streams that start from media, by stream name. All other streams start from features.
    augmentation : AugmentationSettings
    members : tuple of Recipe
        Recipes whose posteriors are combined; empty for a single system.
    combine : CombineSettings
        Combination of the members.
    """

    name: str
    about: str = ""
    targets: TargetSettings = field(default_factory=TargetSettings)
    streams: StreamSettings = field(default_factory=StreamSettings)
    fusion: PluginSettings | None = None
    head: PluginSettings | None = None
    training: TrainingSettings = field(default_factory=TrainingSettings)
    windows: WindowSettings | None = None
    encoders: Mapping[str, EncoderSettings] = field(default_factory=dict)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    members: tuple["Recipe", ...] = ()
    combine: CombineSettings = field(default_factory=CombineSettings)

    @classmethod
    def of(cls, recipe: "Recipe | str | Path") -> "Recipe":
        """Return a recipe, which is read where its name or path is given."""
        return recipe if isinstance(recipe, Recipe) else cls.read(recipe)

    @classmethod
    def read(cls, recipe: str | Path, *, override: Iterable[str] = ()) -> "Recipe":
        """Read a recipe of the package or a TOML file.

        Parameters
        ----------
        recipe : str or path
            Name of a recipe that comes with affuse, or path of a TOML file.
        override : iterable of str
            Items ``section.key=value`` in the notation of TOML (a bare word is a string). In a recipe of members they
            apply to every member.

        Raises
        ------
        UnknownName
            If no recipe has this name.
        RecipeError
            If the file has problems; the message names all of them.
        """
        path = find_recipe(recipe)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path} is not a TOML file: {error}.") from None
        name = path.parent.name if path.name == "recipe.toml" else path.stem
        name, about = str(table.pop("name", name)), str(table.pop("about", ""))
        override = list(override)
        if "members" in table:
            return _combination(path, name, about, table, override)
        if not override:
            return _single(path, name, about, table)
        for item in override:
            set_value(table, item)
        try:
            return _single("--set", name, about, table)
        except RecipeError:
            cls.read(path)  # a problem that exists without --set is reported as one of the file
            raise

    def write(self, path: Path) -> None:
        """Write the recipe with all its values; members are written into folders beside it."""
        lines = [f"name = {format_value(self.name)}", f"about = {format_value(self.about)}"]
        if self.members:
            places = [f"{member.name}/recipe.toml" for member in self.members]
            lines.append(f"members = {format_value(places)}")
            for member, place in zip(self.members, places, strict=True):
                (path.parent / place).parent.mkdir(exist_ok=True)
                member.write(path.parent / place)
            sections: dict[str, Mapping[str, Any]] = {"combine": dataclasses.asdict(self.combine)}
        else:
            sections = {
                "targets": dataclasses.asdict(self.targets),
                "streams": dataclasses.asdict(self.streams),
                **{
                    kind: {"name": plugin.name, **plugin.options}
                    for kind, plugin in (("fusion", self.fusion), ("head", self.head))
                    if plugin
                },
                "training": dataclasses.asdict(self.training),
                **({"windows": dataclasses.asdict(self.windows)} if self.windows else {}),
                **{f"encoders.{format_value(n)}": _with_options(e) for n, e in self.encoders.items()},
                **({"augmentation": dataclasses.asdict(self.augmentation)} if self.encoders else {}),
            }
        for place, values in sections.items():
            lines += ["", f"[{place}]", *(f"{k} = {format_value(v)}" for k, v in values.items())]
        write_text(path, "\n".join(lines) + "\n")


SECTIONS = ("targets", "streams", "fusion", "head", "training", "windows", "encoders", "augmentation")


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with affuse."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_recipe(recipe: str | Path) -> Path:
    """Return the file of a recipe, given by name or path."""
    path = Path(recipe)
    if path.suffix == ".toml":
        if not path.is_file():
            raise RecipeError(f"The file {path} does not exist. `affuse list recipes` shows the recipes of affuse.")
        return path
    check_known("recipe", str(recipe), recipe_names())
    return FOLDER / f"{recipe}.toml"


def _combination(path: Path, name: str, about: str, table: dict[str, Any], override: list[str]) -> Recipe:
    problems: list[str] = []
    listed = table.pop("members")
    combine = read_table(CombineSettings, "combine", table.pop("combine", {}), problems)
    problems += [f"{key!r} cannot be combined with 'members'; set it in the recipes of the members." for key in table]
    if not isinstance(listed, list) or not listed or not all(isinstance(m, str) for m in listed):
        problems.append(f"Found members = {listed!r}, expected a list of recipes, such as ['mer2023-afg-a', 'jca'].")
    _raise(path, problems)
    members = tuple(Recipe.read(path.parent / m if m.endswith(".toml") else m, override=override) for m in listed)
    if nested := [member.name for member in members if member.members]:
        raise RecipeError(f"{path}: {listing(nested)} has members itself. List these instead.")
    if len({member.name for member in members}) < len(members):
        raise RecipeError(f"{path}: two members have the same name. Each needs its own, for its folder in the run.")
    return Recipe(name, about, members=members, combine=combine)


def _single(source: Path | str, name: str, about: str, table: dict[str, Any]) -> Recipe:
    problems = [f"Unknown section {key!r}; {suggestion(key, SECTIONS)}" for key in table if key not in SECTIONS]
    targets = read_table(TargetSettings, "targets", table.get("targets", {}), problems)
    streams = read_table(StreamSettings, "streams", table.get("streams", {}), problems)
    training = read_table(TrainingSettings, "training", table.get("training", {}), problems)
    fusion = _plugin("fusion", table["fusion"], problems) if "fusion" in table else None
    head = _plugin("head", table.get("head"), problems)
    windows = read_table(WindowSettings, "windows", table["windows"], problems) if "windows" in table else None
    encoders = _encoders(table.get("encoders", {}), problems)
    augmentation = read_table(AugmentationSettings, "augmentation", table.get("augmentation", {}), problems)
    problems += [*training.problems(), *augmentation.problems(), *(windows.problems() if windows else [])]
    if encoders and (windows or streams.standardise == "speaker"):
        problems.append("[encoders] cannot be combined with [windows] or streams.standardise = 'speaker'.")
    if not targets.emotion and not targets.dimensions:
        problems.append("[targets] has neither emotion nor dimensions. Set at least one of them.")
    _raise(source, problems)
    return Recipe(name, about, targets, streams, fusion, head, training, windows, encoders, augmentation)


def _raise(source: Path | str, problems: list[str]) -> None:
    if problems:
        raise RecipeError("\n".join(f"{source}: {problem}" for problem in problems))


def _plugin(kind: str, table: Any, problems: list[str]) -> PluginSettings | None:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        problems.append(f"[{kind}] needs a name; {suggestion('', plugins.names(kind))}")
        return None
    options = {key: value for key, value in table.items() if key != "name"}
    try:
        plugin = plugins.find(kind, table["name"])
    except AffuseError as error:
        problems.append(f"[{kind}] {error}")
        return None
    problems += option_problems(plugin, kind, options, owner=f"[{kind}] {table['name']}")
    return PluginSettings(table["name"], options)


def _encoders(table: Any, problems: list[str]) -> dict[str, EncoderSettings]:
    if not isinstance(table, dict) or not all(isinstance(values, dict) for values in table.values()):
        problems.append(f"Found encoders = {table!r}, expected a section for each stream, such as [encoders.audio].")
        return {}
    own = {f.name for f in dataclasses.fields(EncoderSettings)} - {"options"}
    found = {}
    for stream, values in table.items():
        settings = {key: value for key, value in values.items() if key in own}
        options = {key: value for key, value in values.items() if key not in own}
        read = read_table(EncoderSettings, f"encoders.{stream}", settings, problems)
        found[stream] = dataclasses.replace(read, options=options)
        problems += found[stream].problems(stream)
    return found


def _with_options(settings: EncoderSettings) -> dict[str, Any]:
    values = dataclasses.asdict(settings)
    options: dict[str, Any] = values.pop("options")
    return values | options
