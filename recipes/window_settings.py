"""Section ``[windows]`` of a recipe: dimensions over time."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class WindowSettings:
    """Section ``[windows]``: division of long recordings into windows, labels of a window, and smoothing.

    Attributes
    ----------
    length : int
        Number of sub-sequences in a window; the L of joint cross-attention.
    seconds : float
        Duration of a sub-sequence in seconds.
    stride : float
        Seconds between the ends of consecutive sub-sequences. The papers slide by one frame.
    label : {"last", "mean"}
        Label of a sub-sequence: its ``last`` value, or the ``mean`` of its annotated values.
    delay : tuple of float
        Reaction time of the annotators in seconds, one for all dimensions or one for each.
    search : tuple of float
        Reaction times to choose from instead, on the training clips of each fold.
    rate : float
        Values per second in label files without a ``time`` column; 0 if all files have one.
    smooth : float
        Window of a moving average over the training labels, in seconds. Metrics use the labels as annotated.
    bounds : tuple of float
        Lowest and highest prediction; empty: no bounds.
    average : tuple of float
        Window of a moving average over the predictions in seconds, one for all dimensions or one for each; empty:
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

    def problems(self) -> list[str]:
        """Return a message for every value that is out of range."""
        found = [
            f"Found windows.{name} = {value}, expected more than 0."
            for name, value in (("length", self.length), ("seconds", self.seconds), ("stride", self.stride))
            if value <= 0
        ]
        if self.stride > self.seconds > 0:
            found.append(f"Found windows.stride = {self.stride}, expected at most windows.seconds = {self.seconds}.")
        if len(self.bounds) not in (0, 2) or list(self.bounds) != sorted(self.bounds):
            found.append(f"Found windows.bounds = {list(self.bounds)}, expected [lowest, highest] or an empty list.")
        return found
