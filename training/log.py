"""Training log: one line of JSON per epoch, and TensorBoard events where TensorBoard is installed."""

import importlib.util
import json
from pathlib import Path
from typing import Any, Self

from ..cache._commit import atomic_write


class TrainingLog:
    """Log of the training of one model.

    Parameters
    ----------
    path : Path or None
        Path of the log, ``NAME.jsonl``. Events are written to ``tensorboard/NAME/`` beside it. None writes nothing.
    after : int
        Number of completed epochs. TensorBoard discards events that an interrupted training wrote for later epochs.
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
        """Write all epochs to the log, and the last epoch as events."""
        if self.path is None:
            return
        # Flushing the disk in every epoch would slow down small models, and the next epoch writes the log again.
        with atomic_write(self.path, sync=False) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")
        if self._events is not None:
            for name, value in history[-1].items():
                if isinstance(value, int | float) and name != "epoch":
                    self._events.add_scalar(name, value, history[-1]["epoch"])
            self._events.flush()
