"""Systems: posteriors with what is known about them, opened from a file of any tool or from the folder of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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


def open_systems(paths: Sequence[Path], *, logits: bool = False) -> list[System]:
    """Open systems; where two have the same name they get their paths as names, numbered if a path occurs twice."""
    systems = [System.open(path, logits=logits) for path in paths]
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
        names = [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, 1)]
    return [replace(system, name=name) for system, name in zip(systems, names, strict=True)]


def manifest_of(path: Path | None, systems: Sequence[System]) -> Manifest | None:
    """Read the manifest at `path`, or by default that of the first run; None where there is none."""
    path = path or next((s.manifest for s in systems if s.manifest), None)
    return Manifest.read(path) if path else None
