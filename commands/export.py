"""`affuse export`."""

from pathlib import Path

import click

from . import _options
from ._console import counted


@click.command("export", short_help="Write a run for others: a model folder or ONNX.")
@click.argument("run", type=_options.PATH)
@_options.out(required=True, folder=True, help="Folder to write; it must be new or empty.")
@click.option("--onnx", is_flag=True, help="Write fusion and head of every model as ONNX instead.")
@click.option("--whole", is_flag=True, help="With --onnx: include the encoders of streams that are read from media.")
@_options.licence
def command(run: Path, out: Path, onnx: bool, whole: bool, licence: str) -> None:
    """Write a run for others, as a folder with a model card or as ONNX.

    RUN is the folder of a finished run. Without --onnx, weights, recipe and model card are written, as `affuse push`
    uploads them. An ONNX file is written only if its outputs agree with those of the model.

    \b
    affuse export runs/afg-a --out afg-a --licence cc-by-nc-4.0
    affuse export runs/afg-a --out afg-a-onnx --onnx
    affuse export runs/e2e --out e2e-onnx --onnx --whole
    """
    from ..inference.hub import export_run
    from ..inference.onnx import export_onnx
    from ..training.run import Run

    opened = Run.open(run)
    if not onnx:
        folder = export_run(opened, out, licence=licence)
        click.echo(f"{folder}: {counted(len(opened.folder.models), 'model')} and a model card")
        return
    for path, difference in export_onnx(opened, out, include_encoders=whole).items():
        click.echo(f"{path}: outputs differ from the model's by at most {difference:.1e}")
