"""How a run did on the clips it held out, as the few lines that end `affuse train`."""

from typing import Any

import numpy as np

from ..corpora._manifest import Manifest
from ..posteriors import metrics
from ..posteriors.posterior import Posterior
from ..posteriors.truth import Truth
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
        rows = [_row(member.recipe.name, [member.out_of_fold], manifest) for member in run.members]
        return [*rows, _row("combined", [run.out_of_fold], manifest)]
    seeds = run.seeds()
    assert run.facts is not None
    folds = manifest.folds(run.recipe.training.folds, seed=run.recipe.training.seed)
    rows = [_row(f"fold {f.name}", [p.at(f.held_out.ids) for p in seeds], manifest) for f in folds]
    rows.append(_row("mean of seeds" if len(seeds) > 1 else "all folds", seeds, manifest))
    if len(seeds) > 1:
        rows.append(_row("seeds combined", [run.out_of_fold], manifest))
    return rows


def _row(on: str, posteriors: list[Posterior], manifest: Manifest) -> dict[str, Any]:
    clips = manifest.where(posteriors[0].ids)
    truth = Truth.of(clips, posteriors[0].emotions)
    found = [metrics.figures(p.at(clips.ids), truth) for p in posteriors]
    means = {name: float(np.mean([f[name] for f in found])) for name in SHOWN if name in found[0]}
    return {"on": on, "clips": len(clips), **means}
