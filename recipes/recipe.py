"""What a run learns, as a TOML file: targets, streams, fusion, head, training.

A recipe says *what*; paths, devices and workers are options of the command. Reading is strict: an
unknown key, a wrong type and a value out of range are all told at once, with the nearest right one.
"""

import dataclasses
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .. import plugins
from ..errors import AffuseError, RecipeError, UnknownName, listing, suggestion
from ._toml import option_faults, put, section, spelled
from .encoder_settings import AugmentationSettings, EncoderSettings
from .window_settings import WindowSettings

T = typing.TypeVar("T")

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
AT_LEAST_ONE = ("epochs", "batch", "seeds", "accumulate")
SHARES = ("validation", "ema", "frame_dropout")


@dataclass(frozen=True)
class TargetSettings:
    """What is decoded: ``[targets]``.

    Attributes
    ----------
    emotion : bool
    dimensions : tuple of str
        Columns of the manifest, such as ``valence``; those that nobody annotated are left out.
    """

    emotion: bool = True
    dimensions: tuple[Literal["valence", "arousal"], ...] = ("valence",)


@dataclass(frozen=True)
class StreamSettings:
    """What enters the fusion, and how it is prepared: ``[streams]``.

    Attributes
    ----------
    modalities : tuple of str
        Take streams of these modalities alone; empty: all that are given.
    standardise : str
        ``train``: by mean and deviation of the training fold, saved with the model. ``speaker``:
        before that, every clip over all clips of its own speaker; uses no label, but needs the
        speaker's clips at prediction too.
    layers : str or int
        Where an encoder's layers are kept apart: ``mix`` learns softmax weights; a number takes
        that one layer.
    pool : tuple of str
        For heads on pooled features: which statistics over time stand side by side.
    """

    modalities: tuple[str, ...] = ()
    standardise: Literal["none", "train", "speaker"] = "train"
    layers: Literal["mix"] | int = "mix"
    pool: tuple[Literal["mean", "std"], ...] = ("mean",)


@dataclass(frozen=True)
class Choice:
    """A plug-in and its options: ``[fusion]``, ``[head]``."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingSettings:
    """How it is learnt: ``[training]``.

    Attributes
    ----------
    epochs, batch : int
    learning_rate, weight_decay : float
        Of AdamW; biases, norms and scalars such as uncertainties do not decay.
    warmup : float
        Epochs over which the rate climbs linearly.
    schedule : str
        What follows: ``cosine`` to zero, or ``constant``.
    patience : int
        Stop after so many epochs without a better score on clips set aside *from the training
        folds*, speakers kept apart, and keep the best epoch; 0: all epochs, all training clips.
    validation : float
        Share of the training clips set aside where there is patience.
    select : str
        The score that patience watches.
    clip : float
        Largest gradient norm; 0: any.
    ema : float
        Decay a step of an average of the weights that is kept instead of the last; 0: the last.
    noise : float
        Deviation of Gaussian noise on the standardised features, while training.
    frame_dropout : float
        Share of the steps that are masked, while training.
    modality_dropout : str
        ``softhard``: every batch is taken as it is, with its modalities faded against each other,
        and with each modality alone (Chumachenko, Iosifidis and Gabbouj 2022).
    balanced : bool
        Draw clips so that emotions are equally frequent.
    precision : str
        ``bfloat16`` or ``float16`` computes forward passes in it where the device does so fast.
    accumulate : int
        Parts that a batch is computed in, one after the other: less memory, the same step.
    seeds, seed : int
        So many models a fold, seeded from `seed` on.
    folds : int
        Where the manifest does not say them.
    """

    epochs: int = 40
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 1.0
    schedule: Literal["cosine", "constant"] = "cosine"
    patience: int = 0
    validation: float = 0.2
    select: Literal["mer2023", "waf", "uar", "macro_f1", "accuracy", "ccc", "mse"] = "mer2023"
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


@dataclass(frozen=True)
class CombineSettings:
    """How members become one posterior: ``[combine]``; nothing is fitted, so nothing can leak."""

    rule: Literal["mean", "geometric", "entropy", "majority", "median"] = "mean"


@dataclass(frozen=True)
class Recipe:
    """A whole recipe: one system, or several members and how they are combined.

    Attributes
    ----------
    name : str
    about : str
        One line, shown by `affuse list recipes`.
    targets : TargetSettings
    streams : StreamSettings
    fusion : Choice or None
        None for heads on pooled features, and for recipes of members.
    head : Choice or None
        None for recipes of members.
    training : TrainingSettings
    windows : WindowSettings or None
        For dimensions over time.
    encoders : mapping of str to EncoderSettings
        Streams that start from media, by name; all others start from features.
    augmentation : AugmentationSettings
    members : tuple of Recipe
    combine : CombineSettings
    """

    name: str
    about: str = ""
    targets: TargetSettings = field(default_factory=TargetSettings)
    streams: StreamSettings = field(default_factory=StreamSettings)
    fusion: Choice | None = None
    head: Choice | None = None
    training: TrainingSettings = field(default_factory=TrainingSettings)
    windows: WindowSettings | None = None
    encoders: Mapping[str, EncoderSettings] = field(default_factory=dict)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    members: tuple["Recipe", ...] = ()
    combine: CombineSettings = field(default_factory=CombineSettings)

    @classmethod
    def read(cls, recipe: str | Path, *, override: Iterable[str] = ()) -> "Recipe":
        """Read a recipe by its name in `recipes`, or a TOML file.

        Parameters
        ----------
        recipe : str or path
        override : iterable of str
            ``section.key=value`` in TOML's spelling (a bare word is a string); in a recipe of
            members they go to every member.

        Raises
        ------
        UnknownName
            No recipe of that name.
        RecipeError
            Every fault of the file.
        """
        path = locate(recipe)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path} is not TOML: {error}") from None
        name = path.parent.name if path.name == "recipe.toml" else path.stem
        name, about = str(table.pop("name", name)), str(table.pop("about", ""))
        override = list(override)
        if "members" in table:
            return _of_members(path, name, about, table, override)
        if not override:
            return _system(path, name, about, table)
        for item in override:
            put(table, item)
        try:
            return _system("--set", name, about, table)
        except RecipeError:
            cls.read(path)  # what is wrong without --set too is the file's fault
            raise

    def write(self, path: Path) -> None:
        """Write the recipe with every value said; its members into folders beside it."""
        lines = [f"name = {spelled(self.name)}", f"about = {spelled(self.about)}"]
        if self.members:
            places = [f"{member.name}/recipe.toml" for member in self.members]
            lines.append(f"members = {spelled(places)}")
            for member, place in zip(self.members, places, strict=True):
                (path.parent / place).parent.mkdir(exist_ok=True)
                member.write(path.parent / place)
            sections: dict[str, Mapping[str, Any]] = {"combine": dataclasses.asdict(self.combine)}
        else:
            sections = {
                "targets": dataclasses.asdict(self.targets),
                "streams": dataclasses.asdict(self.streams),
                **{
                    kind: {"name": choice.name, **choice.options}
                    for kind, choice in (("fusion", self.fusion), ("head", self.head))
                    if choice
                },
                "training": dataclasses.asdict(self.training),
                **({"windows": dataclasses.asdict(self.windows)} if self.windows else {}),
                **{f"encoders.{spelled(n)}": _flat(e) for n, e in self.encoders.items()},
                **({"augmentation": dataclasses.asdict(self.augmentation)} if self.encoders else {}),
            }
        for place, values in sections.items():
            lines += ["", f"[{place}]", *(f"{k} = {spelled(v)}" for k, v in values.items())]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def names() -> list[str]:
    """List the recipes that come with affuse."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def locate(recipe: str | Path) -> Path:
    """Return the file of a recipe, given by name or path."""
    path = Path(recipe)
    if path.suffix == ".toml":
        if not path.is_file():
            raise RecipeError(f"{path} is not a file; `affuse list recipes` tells those there are")
        return path
    if str(recipe) not in names():
        raise UnknownName("recipe", str(recipe), names())
    return FOLDER / f"{recipe}.toml"


def _of_members(path: Path, name: str, about: str, table: dict[str, Any], override: list[str]) -> Recipe:
    faults: list[str] = []
    listed = table.pop("members")
    combine = section(CombineSettings, "combine", table.pop("combine", {}), faults)
    faults += [f"{key!r} does not go with 'members'" for key in table]
    if not isinstance(listed, list) or not listed or not all(isinstance(m, str) for m in listed):
        faults.append("members: wanted a list of recipes, such as ['mer2023-afg-a', 'jca']")
    _complain(path, faults)
    members = tuple(Recipe.read(path.parent / m if m.endswith(".toml") else m, override=override) for m in listed)
    if nested := [member.name for member in members if member.members]:
        raise RecipeError(f"{path}: {listing(nested)} has members itself; list those")
    if len({member.name for member in members}) < len(members):
        raise RecipeError(f"{path}: members of the same name; a run needs a folder for each")
    return Recipe(name, about, members=members, combine=combine)


def _system(where: Path | str, name: str, about: str, table: dict[str, Any]) -> Recipe:
    faults: list[str] = []
    known = ("targets", "streams", "fusion", "head", "training", "windows", "encoders", "augmentation")
    for key in table:
        if key not in known:
            faults.append(f"unknown section {key!r}; {suggestion(key, known)}")
    targets = section(TargetSettings, "targets", table.get("targets", {}), faults)
    streams = section(StreamSettings, "streams", table.get("streams", {}), faults)
    training = section(TrainingSettings, "training", table.get("training", {}), faults)
    fusion = _choice("fusion", table.get("fusion"), faults) if "fusion" in table else None
    head = _choice("head", table.get("head"), faults)
    windows = None
    if "windows" in table:
        windows = section(WindowSettings, "windows", table["windows"], faults)
        faults += windows.faults()
    encoders = _encoders(table.get("encoders", {}), faults)
    augmentation = section(AugmentationSettings, "augmentation", table.get("augmentation", {}), faults)
    faults += augmentation.faults()
    if encoders and (windows or streams.standardise == "speaker"):
        faults.append("[encoders] go with neither [windows] nor streams.standardise = 'speaker'")
    faults += _out_of_range(training)
    if not targets.emotion and not targets.dimensions:
        faults.append("targets: neither emotion nor dimensions; nothing is left to learn")
    _complain(where, faults)
    return Recipe(name, about, targets, streams, fusion, head, training, windows, encoders, augmentation)


def _complain(where: Path | str, faults: list[str]) -> None:
    if faults:
        raise RecipeError("\n".join(f"{where}: {fault}" for fault in faults))


def _choice(kind: str, table: Any, faults: list[str]) -> Choice | None:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        faults.append(f"[{kind}] wants at least a name; {suggestion('', plugins.names(kind))}")
        return None
    settings = {key: value for key, value in table.items() if key != "name"}
    try:
        maker = plugins.find(kind, table["name"])
    except AffuseError as error:
        faults.append(f"[{kind}] {error}")
        return None
    faults += option_faults(maker, f"[{kind}] {table['name']}", settings)
    return Choice(table["name"], settings)


def _encoders(table: Any, faults: list[str]) -> dict[str, EncoderSettings]:
    if not isinstance(table, dict) or not all(isinstance(t, dict) for t in table.values()):
        faults.append("encoders: wanted a section a stream, such as [encoders.audio]")
        return {}
    own = {f.name for f in dataclasses.fields(EncoderSettings)} - {"options"}
    found = {}
    for stream, values in table.items():
        said = {key: value for key, value in values.items() if key in own}
        settings = section(EncoderSettings, f"encoders.{stream}", said, faults)
        options = {key: value for key, value in values.items() if key not in own}
        found[stream] = dataclasses.replace(settings, options=options)
        faults += found[stream].faults(stream)
    return found


def _flat(settings: EncoderSettings) -> dict[str, Any]:
    values = dataclasses.asdict(settings)
    options: dict[str, Any] = values.pop("options")
    return values | options


def _out_of_range(training: TrainingSettings) -> list[str]:
    found = []
    for key, value in dataclasses.asdict(training).items():
        if key in AT_LEAST_ONE and value < 1:
            found.append(f"training.{key} = {value}; wanted at least 1")
        elif key in SHARES and not 0 <= value < 1:
            found.append(f"training.{key} = {value}; wanted a share, from 0 to below 1")
        elif key == "folds" and value < 2:
            found.append(f"training.folds = {value}; wanted at least 2")
        elif isinstance(value, (int, float)) and value < 0:
            found.append(f"training.{key} = {value}; wanted no negative number")
    if training.patience and not training.validation:
        found.append("training.patience needs training.validation above 0: clips to watch")
    return found
