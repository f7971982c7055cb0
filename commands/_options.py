"""Options that several verbs share, defined once so that a name means the same everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ._console import note

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
decoders = click.option(
    "--decoders",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Number of clips that are decoded at the same time, for streams that are read from media.",
)
device = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device to compute on: auto, cpu, cuda, cuda:1 or mps. auto takes a GPU where there is one.",
)
face_detector = click.option(
    "--face-detector",
    type=FILE,
    help="YuNet face detector as an ONNX file.  [default: downloaded from the Hugging Face Hub]",
)
licence = click.option(
    "--licence",
    default="other",
    show_default=True,
    help="Licence named in the model card, as the Hugging Face Hub spells it, for example cc-by-nc-4.0.",
)
logits = click.option("--logits", is_flag=True, help="Apply a softmax to the values in the posterior files.")
split = click.option(
    "--split",
    help="Score only the clips of this split. Clips without a posterior count as wrong.  "
    "[default: all clips of the posterior]",
)


def features(default: str | None = "features", *, help: str = "Feature store to read.") -> Decorator:
    """Return the option for the feature store that a verb reads."""
    return click.option("--features", type=PATH, default=default, show_default=True, help=help)


def manifest(default: str | None = None, *, required: bool = False, help: str) -> Decorator:
    """Return the option for the manifest that a verb reads."""
    return click.option("--manifest", type=FILE, required=required, show_default=True, help=help, **_given(default))


def _given(default: str | None) -> dict[str, Any]:
    """Return the default as an argument: click takes an explicit None for a value, also of a required option."""
    return {} if default is None else {"default": default}


def out(default: str | None = None, *, required: bool = False, folder: bool = False, help: str) -> Decorator:
    """Return the option for the file or folder that a verb writes."""
    kind = PATH if folder else FILE
    return click.option("-o", "--out", type=kind, required=required, show_default=True, help=help, **_given(default))


def workers(help: str) -> Decorator:
    """Return the option for the number of jobs that run at the same time."""
    return click.option("--workers", type=click.IntRange(1), help=help)


def renamed(old: str, new: str) -> Decorator:
    """Accept an option under its former name too, hidden in the help, with a note that gives the new name."""
    name = new.removeprefix("--").replace("-", "_")

    def pass_on(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            note(f"{old} is now called {new}.")
            ctx.default_map = {**(ctx.default_map or {}), name: value}

    # It is processed before the other options, so that its value can become the default of the new one.
    return click.option(
        old, hidden=True, is_eager=True, expose_value=False, callback=pass_on, help=f"Former name of {new}."
    )


def resamples(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option for the number of bootstrap resamples, and its former name."""
    option = click.option(
        "--resamples",
        type=click.IntRange(1),
        default=1000,
        show_default=True,
        help="Number of bootstrap resamples over speakers, for the confidence intervals.",
    )
    return renamed("--draws", "--resamples")(option(verb))
