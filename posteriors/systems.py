"""What a command is given as a system: a posterior's file of any tool, or the folder of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import PosteriorMismatch
from ..manifest import Manifest
from .bootstrap import N_DRAWS
from .evaluation import Evaluation, evaluate
from .posterior import Posterior
from .provenance import Provenance


@dataclass(frozen=True)
class System:
    """One system's answers.

    Attributes
    ----------
    name : str
        Of the file or folder.
    posterior : Posterior
        Of a run: out-of-fold, with the clips under test behind.
    seeds : tuple of Posterior
        Of a run: the out-of-fold posterior of each seed.
    provenance : Provenance or None
    manifest : Path or None
        Of a run: what it was trained on.
    folder : Path or None
        Of a run.
    """

    name: str
    posterior: Posterior
    seeds: tuple[Posterior, ...] = ()
    provenance: Provenance | None = None
    manifest: Path | None = None
    folder: Path | None = None

    @classmethod
    def open(cls, path: str | Path, *, logits: bool = False) -> "System":
        """Open a file or a run.

        Raises
        ------
        PosteriorMismatch
            Neither; or a run without posteriors.
        """
        path = Path(path)
        if not path.is_dir():
            posterior = Posterior.read(path, logits=logits)
            return cls(path.stem, posterior, provenance=Provenance.read(path))
        folder = path / "posteriors"
        parts = [folder / name for name in ("out-of-fold.csv", "test.csv")]
        found = [Posterior.read(part) for part in parts if part.is_file()]
        if not found:
            raise PosteriorMismatch(
                f"{path} holds no posteriors; wanted a run that `affuse train` finished, or a posterior's file"
            )
        seeds = tuple(Posterior.read(file) for file in sorted(folder.glob("seed*.csv")))
        manifest = path / "manifest.csv"
        return cls(
            path.resolve().name, _joined(found), seeds, manifest=manifest if manifest.is_file() else None, folder=path
        )


def open_all(paths: tuple[Path, ...], *, logits: bool = False) -> tuple[list[System], list[str]]:
    """Open sources; return them with names that differ."""
    sources = [System.open(path, logits=logits) for path in paths]
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return sources, names


def evaluate_all(
    sources: Sequence[System],
    names: Sequence[str],
    manifest: Manifest,
    *,
    split: str | None = None,
    sentiment: bool = False,
    n_draws: int = N_DRAWS,
) -> list[Evaluation]:
    """Score sources, each with its seeds and what it was fitted on; see `evaluate`."""
    return [
        evaluate(
            source.posterior,
            manifest,
            name=name,
            split=split,
            seeds=source.seeds,
            provenance=source.provenance,
            sentiment=sentiment,
            n_draws=n_draws,
        )
        for source, name in zip(sources, names, strict=True)
    ]


def manifest_of(given: Path | None, sources: list[System]) -> Manifest | None:
    """Return the manifest that was given, else that of the first run."""
    path = given or next((s.manifest for s in sources if s.manifest), None)
    return Manifest.read(path) if path else None


def _joined(parts: list[Posterior]) -> Posterior:
    first = parts[0]
    rows = [part.ordered(first.emotions) for part in parts]
    dimensions = {
        name: np.concatenate([p.dimensions.get(name, np.full(len(p), np.nan)) for p in rows])
        for name in first.dimensions
    }
    return Posterior(
        tuple(clip for part in rows for clip in part.ids),
        first.emotions,
        np.concatenate([part.probabilities for part in rows]),
        dimensions,
    )
