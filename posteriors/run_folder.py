"""The layout of a run's folder: the only place that builds the path of a file inside a run.

::

    recipe.toml      the recipe with every value       run.json     streams, folds, versions, digests
    manifest.csv     the clips and labels used         models/      seed0-fold1.safetensors, …
    logs/            one JSON line per epoch           posteriors/  out-of-fold.csv, test.csv, seed0.csv

A run of a recipe with members has no models of its own: it contains one such folder per member.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files of a run; no method creates or opens a file.

    >>> RunFolder(Path("runs/a")).model(0, "1").as_posix()
    'runs/a/models/seed0-fold1.safetensors'
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe as it was trained; a folder without this file is not a run."""
        return self.path / "recipe.toml"

    @property
    def metadata(self) -> Path:
        """The metadata of the run; a run of members has none."""
        return self.path / "run.json"

    @property
    def manifest(self) -> Path:
        """The clips and labels that the run was trained on."""
        return self.path / "manifest.csv"

    def member(self, name: str) -> "RunFolder":
        """Return the folder of one member of the recipe."""
        return RunFolder(self.path / name)

    def model(self, seed: int, fold: str) -> Path:
        """Return the trained model of a seed and a fold.

        The names of folds come from the manifest. Characters that may not stand in a file name become
        hyphens, and six digits of a digest keep such names apart.
        """
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in fold)
        if name != fold:
            name += "-" + hashlib.blake2b(fold.encode(), digest_size=12).hexdigest()[:6]
        return self.path / "models" / f"seed{seed}-fold{name}.safetensors"

    def training_state(self, seed: int, fold: str) -> Path:
        """Return the checkpoint of a training in progress; it is removed when the model is written."""
        return self.model(seed, fold).with_suffix(".state")

    def log(self, seed: int, fold: str) -> Path:
        """Return the training log of a seed and a fold: one JSON line per epoch."""
        return self.path / "logs" / f"{self.model(seed, fold).stem}.jsonl"

    @property
    def models(self) -> list[Path]:
        """The trained models that exist, sorted by name."""
        return sorted((self.path / "models").glob("seed*-fold*.safetensors"))

    @property
    def posteriors(self) -> Path:
        """The folder of all posteriors."""
        return self.path / "posteriors"

    @property
    def out_of_fold(self) -> Path:
        """The posterior of all held-out clips, averaged over seeds."""
        return self.posteriors / "out-of-fold.csv"

    @property
    def test(self) -> Path:
        """The posterior of the clips with the split ``test``, averaged over all models."""
        return self.posteriors / "test.csv"

    def seed_posterior(self, seed: int) -> Path:
        """Return the out-of-fold posterior of one seed."""
        return self.posteriors / f"seed{seed}.csv"

    @property
    def seed_posteriors(self) -> list[Path]:
        """The out-of-fold posteriors of single seeds that exist, sorted by name."""
        return sorted(self.posteriors.glob("seed*.csv"))
