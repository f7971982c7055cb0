"""How a posterior came about, in a JSON beside it: what it learnt from must never be scored."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PosteriorMismatch


@dataclass(frozen=True)
class Provenance:
    """What a posterior was made by and fitted on.

    Attributes
    ----------
    made_by : str
        Such as ``affuse 0.1.0, rule log-linear``.
    members : dict of str to dict
        By name: weight, spread over folds, temperature.
    fitted_on : list of str
        Clips whose labels were used.
    cross_fitted : bool
        Each of those clips was itself combined by what had not seen its speaker.
    learnt_from : list of str
        Clips that were answered by models which learnt from them.
    notices : list of str
        What a reader of the figures should know.
    score : str
        Name of the table's figure.
    table : list of dict
        What each member was worth, as `combination.Row.as_json` tells it; empty without labels.
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
    def seen(self) -> list[str]:
        """Clips whose answers must not be scored, nor those of the same people."""
        return [*self.learnt_from, *([] if self.cross_fitted else self.fitted_on)]

    def write(self, posterior: Path) -> None:
        """Write it beside the posterior's file."""
        text = json.dumps(asdict(self), indent=1, allow_nan=True)
        beside(posterior).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, posterior: Path) -> "Provenance | None":
        """Read the one beside a posterior's file; None where there is none.

        Raises
        ------
        PosteriorMismatch
            There is one that affuse did not write.
        """
        path = beside(posterior)
        if not path.is_file():
            return None
        try:
            fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(**fields)
        except (ValueError, TypeError) as error:
            raise PosteriorMismatch(
                f"{path} does not say how {posterior.name} was made ({error}); remove it if it is not affuse's"
            ) from None


def beside(posterior: Path) -> Path:
    """Return where the provenance of a posterior's file stands."""
    return posterior.with_name(posterior.name + ".json")
