"""How a run did on the clips it held out, as the few lines that end `affuse train`."""

from typing import Any

import numpy as np

from ..manifest import Manifest
from ..posteriors import metrics
from ..posteriors.labels import Labels
from ..posteriors.over_time import moments, of_clips
from ..posteriors.posterior import Posterior
from ..recipes.recipe import Recipe
from .run import Run

SHOWN = ("accuracy", "uar", "waf", "mse:valence", "ccc:valence", "ccc:arousal", "mer2023")


def results(run: Run, manifest: Manifest) -> list[dict[str, Any]]:
    """Return one row a fold, then all clips; every figure on held-out clips.

    Returns
    -------
    list of dict
        ``on``, ``clips``, then the figures: a fold's are means over seeds. ``mean of seeds`` is
        what one model a fold reaches, ``seeds combined`` what the mean of their posteriors does.
        A run of members has a row a member, and one combined.
    """
    if run.recipe.members:
        rows = [_row(member.recipe.name, [member.out_of_fold], manifest, member.recipe) for member in run.members]
        return [*rows, _row("combined", [run.out_of_fold], manifest, run.recipe.members[0])]
    seeds = run.seeds()
    rows = [
        _row(f"fold {f.name}", [of_clips(p, f.held_out.ids) for p in seeds], manifest, run.recipe)
        for f in run.folds(manifest)
    ]
    rows.append(_row("mean of seeds" if len(seeds) > 1 else "all folds", seeds, manifest, run.recipe))
    if len(seeds) > 1:
        rows.append(_row("seeds combined", [run.out_of_fold], manifest, run.recipe))
    return rows


def _row(on: str, posteriors: list[Posterior], manifest: Manifest, recipe: Recipe) -> dict[str, Any]:
    first = posteriors[0]
    rate = recipe.windows.rate if recipe.windows else None
    truth = Labels.of(moments(manifest, first.ids, rate=rate).where(first.ids), first.emotions)
    found = [metrics.figures(p.at(truth.ids), truth) for p in posteriors]
    means = {name: float(np.mean([f[name] for f in found])) for name in SHOWN if name in found[0]}
    return {"on": on, "clips": len(truth), **means}
