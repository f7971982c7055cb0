"""Systems: posteriors with what is known about them, opened from a file of any tool or from the folder of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..errors import PosteriorMismatch
from ..manifest import Manifest
from .posterior import Posterior, concatenate
from .provenance import Provenance
from .run_folder import RunFolder


@dataclass(frozen=True)
class System:
    """Predictions of one system.

    Attributes
    ----------
    name : str
        Name of the file or folder.
    posterior : Posterior
        Of a run: out-of-fold predictions, followed by those for the test clips.
    seeds : tuple of Posterior
        Of a run: the out-of-fold posterior of each seed.
    provenance : Provenance or None
    manifest : Path or None
        Manifest that a run was trained on.
    folder : Path or None
        Folder of a run.
    """

    name: str
    posterior: Posterior
    seeds: tuple[Posterior, ...] = ()
    provenance: Provenance | None = None
    manifest: Path | None = None
    folder: Path | None = None

    @classmethod
    def open(cls, path: str | Path, *, logits: bool = False) -> "System":
        """Open the file of a posterior or the folder of a run.

        Raises
        ------
        PosteriorError
            The path does not exist, or the file cannot be read.
        PosteriorMismatch
            The folder holds no posteriors.
        """
        path = Path(path)
        if not path.is_dir():
            posterior = Posterior.read(path, logits=logits)
            return cls(path.stem, posterior, provenance=Provenance.read(path))
        folder = RunFolder(path)
        parts = [Posterior.read(part) for part in (folder.out_of_fold, folder.test) if part.is_file()]
        if not parts:
            raise PosteriorMismatch(
                f"{path} holds no posteriors. Expected the folder of a run that `affuse train` has finished, or the "
                "file of a posterior."
            )
        seeds = tuple(Posterior.read(file) for file in folder.seed_posteriors)
        manifest = folder.manifest if folder.manifest.is_file() else None
        return cls(path.resolve().name, concatenate(parts), seeds, manifest=manifest, folder=path)


@runtime_checkable
class HasPosterior(Protocol):
    """Result that carries a posterior and how it was made, such as a `Combination` or `Predictions`."""

    @property
    def posterior(self) -> Posterior: ...

    @property
    def provenance(self) -> Provenance: ...


@runtime_checkable
class HasPath(Protocol):
    """Trained run, whose folder holds its posteriors."""

    @property
    def path(self) -> Path: ...


SystemLike = System | Posterior | HasPosterior | HasPath | str | Path
"""Everything that can be combined, evaluated and reported; a path is a posterior file or the folder of a run."""


def as_system(source: SystemLike, *, logits: bool = False) -> System:
    """Return the system that a posterior, result, run or path stands for."""
    if isinstance(source, System):
        return source
    if isinstance(source, Posterior):
        return System("posterior", source)
    if isinstance(source, str | Path):
        return System.open(source, logits=logits)
    if isinstance(source, HasPosterior):
        name = "combined" if source.provenance.members else "predictions"
        return System(name, source.posterior, provenance=source.provenance)
    if isinstance(source, HasPath):
        return System.open(source.path)
    raise PosteriorMismatch(
        f"Found a {type(source).__name__}. Expected a run, a posterior, a combination or the path of one of them."
    )


def open_systems(sources: SystemLike | Sequence[SystemLike], *, logits: bool = False) -> list[System]:
    """Return systems with different names: those of the same name are called by their paths, or numbered."""
    several = isinstance(sources, Sequence) and not isinstance(sources, str)
    given: list[SystemLike] = list(sources) if several else [sources]  # type: ignore[arg-type, list-item]
    systems = [as_system(source, logits=logits) for source in given]
    names = [system.name for system in systems]
    names = [
        str(source) if names.count(name) > 1 and isinstance(source, str | Path) else name
        for source, name in zip(given, names, strict=True)
    ]
    names = [name if names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(names, 1)]
    return [replace(system, name=name) for system, name in zip(systems, names, strict=True)]


def manifest_of(path: Path | None, systems: Sequence[System]) -> Manifest | None:
    """Read the manifest at `path`, or by default that of the first run; None where there is none."""
    path = path or next((s.manifest for s in systems if s.manifest), None)
    return Manifest.read(path) if path else None
