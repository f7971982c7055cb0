"""`affuse export`."""

from pathlib import Path

import click

from ._console import PATH


@click.command("export")
@click.argument("run", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="A folder that is not there yet.")
@click.option("--onnx", is_flag=True, help="Fusion and head of every model as ONNX.")
@click.option("--whole", is_flag=True, help="With --onnx: the encoders of media streams too.")
@click.option("--licence", default="other", show_default=True, help="For the card.")
def command(run: Path, out: Path, onnx: bool, whole: bool, licence: str) -> None:
    """Write a run for others: weights, recipe and card, or ONNX that was compared with it.

    \b
    affuse export runs/afg-a --out afg-a-onnx --onnx
    affuse export runs/afg-a --out afg-a --licence cc-by-nc-4.0
    """
    from ..inference.hub import bundle
    from ..inference.onnx import to_onnx
    from ..training.model import EmotionModel
    from ..training.run import Run

    opened = Run.open(run)
    if not onnx:
        click.echo(f"{bundle(opened, out, licence=licence)}: {len(opened.models)} models, a card")
        return
    for model in opened.models:
        place = out / f"{model.stem}.onnx"
        worst = to_onnx(EmotionModel.load(model), place, whole=whole)
        click.echo(f"{place}: differs from the model by at most {worst:.1e}")
