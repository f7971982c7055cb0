"""Provenance of a posterior, in a JSON file beside it: clips that it was fitted on must never be scored."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..cache._commit import write_text
from ..errors import PosteriorMismatch


@dataclass(frozen=True)
class Provenance:
    """Origin of a posterior.

    Attributes
    ----------
    made_by : str
        Program and rule, such as ``affuse 0.1.0, rule log-linear``.
    members : dict of str to dict
        Weight, spread over folds and temperature of each member.
    fitted_on : list of str
        Clips whose labels were used.
    cross_fitted : bool
        Whether each of those clips was combined with a fit to other speakers.
    notices : list of str
        Remarks for the reader of the scores.
    score : str
        Name of the metric in the table.
    table : list of dict
        Contribution of each member, as `combine.ContributionRow.as_json` returns it; empty without labels.
    learnt_from : list of str
        Clips that were predicted by models trained on them.
    """

    made_by: str
    members: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fitted_on: list[str] = field(default_factory=list)
    cross_fitted: bool = True
    notices: list[str] = field(default_factory=list)
    score: str = ""
    table: list[Mapping[str, Any]] = field(default_factory=list)
    learnt_from: list[str] = field(default_factory=list)

    @property
    def fitted_clips(self) -> list[str]:
        """Clips whose predictions must not be scored, nor those of other clips of the same speakers."""
        return [*self.learnt_from, *([] if self.cross_fitted else self.fitted_on)]

    def write(self, posterior: Path) -> None:
        """Write the provenance beside the file of a posterior."""
        text = json.dumps(asdict(self), indent=1, allow_nan=True)
        write_text(provenance_path(posterior), text + "\n")

    @classmethod
    def read(cls, posterior: Path) -> "Provenance | None":
        """Read the provenance beside the file of a posterior; None where there is none."""
        path = provenance_path(posterior)
        if not path.is_file():
            return None
        try:
            fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(**fields)
        except (ValueError, TypeError) as error:
            raise PosteriorMismatch(
                f"{path} is not the provenance of {posterior.name} ({error}). Expected a file that affuse wrote. "
                "Remove or rename it if another tool wrote it."
            ) from None


def provenance_path(posterior: Path) -> Path:
    """Return the path of the provenance of a posterior's file."""
    return posterior.with_name(posterior.name + ".json")
