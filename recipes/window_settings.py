"""The section ``[windows]`` of a recipe: dimensions over time."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class WindowSettings:
    """How long recordings are cut, labelled and put together again: ``[windows]``.

    Attributes
    ----------
    length : int
        Sub-sequences a window: the L of joint cross-attention.
    seconds : float
        Of a sub-sequence.
    stride : float
        Seconds between the ends of sub-sequences: the papers slide by one frame.
    label : str
        Of a sub-sequence: its ``last`` one, or the ``mean`` of those annotated.
    delay : tuple of float
        Seconds that annotators answer late, one for all dimensions or one each.
    search : tuple of float
        Delays to choose from instead, by each fold's training clips.
    rate : float
        Values a second of label files without a column ``time``; 0: all have one.
    smooth : float
        Seconds of a moving average over the labels that are learnt; scores keep them as annotated.
    bounds : tuple of float
        Lowest and highest answer; empty: any.
    average : tuple of float
        Seconds of a moving average over the answers, one for all dimensions or one each; empty:
        none.
    """

    length: int = 16
    seconds: float = 1.0
    stride: float = 0.25
    label: Literal["last", "mean"] = "last"
    delay: tuple[float, ...] = (0.0,)
    search: tuple[float, ...] = ()
    rate: float = 0.0
    smooth: float = 0.0
    bounds: tuple[float, ...] = (-1.0, 1.0)
    average: tuple[float, ...] = ()

    def faults(self) -> list[str]:
        """Return what is out of range, in words."""
        found = [
            f"windows.{name} = {value}; wanted more than 0"
            for name, value in (("length", self.length), ("seconds", self.seconds), ("stride", self.stride))
            if value <= 0
        ]
        if self.stride > self.seconds > 0:
            found.append(f"windows.stride = {self.stride}; wanted at most windows.seconds")
        if len(self.bounds) not in (0, 2) or list(self.bounds) != sorted(self.bounds):
            found.append("windows.bounds; wanted the lowest and the highest answer, or none")
        return found
