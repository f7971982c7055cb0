"""How a training goes: a line of JSON an epoch, and TensorBoard's events where it is installed."""

import importlib.util
import json
from pathlib import Path
from typing import Any, Self


class Log:
    """The log of one model's training.

    Parameters
    ----------
    path : Path or None
        ``NAME.jsonl``; events go to ``tensorboard/NAME/`` beside it. None: nothing is written.
    after : int
        Epochs that are done already; what an interrupted run said of later ones is void.
    """

    def __init__(self, path: Path | None, *, after: int = 0) -> None:
        self.path = path
        self._events: Any = None
        if path and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            folder = path.parent / "tensorboard" / path.stem
            self._events = SummaryWriter(folder, purge_step=after + 1 if after else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._events is not None:
            self._events.close()

    def write(self, history: list[dict[str, Any]]) -> None:
        """Write the log anew, and the last epoch's events."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        spare = self.path.with_suffix(".tmp")
        spare.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")
        spare.replace(self.path)
        if self._events is not None:
            for name, value in history[-1].items():
                if isinstance(value, int | float) and name != "epoch":
                    self._events.add_scalar(name, value, history[-1]["epoch"])
            self._events.flush()
