"""Settings of an extraction."""

from dataclasses import dataclass

from ..errors import InvalidValue, check_known
from ..media.faces import FaceOptions

PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class ExtractionSettings:
    """Settings of an extraction; precision, faces and coverage change the stored features as well.

    Attributes
    ----------
    workers : int or None
        Number of forward passes at the same time; None runs one per core on a CPU, and one on an
        accelerator.
    threads : int
        CPU threads of a forward pass. With more than one, the last bits of the features depend on
        their number.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    precision : {"float32", "float16", "bfloat16"} or None
        Precision of the forward pass; None uses that of the features in the store, or else float16
        on CUDA and float32 elsewhere.
    part : (int, int)
        ``(i, n)`` extracts the i-th of n parts of the work, for job arrays.
    min_coverage : float
        Minimum fraction of a clip that must decode; clips below it are reported as failed.
    faces : FaceOptions
        Options of face crops (``crop=face``).
    decode_seconds : int
        Wall time in seconds that a decoder may take for one segment of a clip.
    decode_memory : int
        Address space in bytes of a decoder.
    """

    workers: int | None = None
    threads: int = 1
    device: str = "auto"
    precision: str | None = None
    part: tuple[int, int] = (1, 1)
    min_coverage: float = 0.5
    faces: FaceOptions = FaceOptions()
    decode_seconds: int = 120
    decode_memory: int = 6 << 30

    def __post_init__(self) -> None:
        if self.precision is not None:
            check_known("precision", self.precision, PRECISIONS)
        index, n = self.part
        if not 1 <= index <= n:
            raise InvalidValue(f"Found part={self.part}. Expected (i, n) with i from 1 to n.")
        if min(1 if self.workers is None else self.workers, self.threads) < 1:
            raise InvalidValue(f"Found workers={self.workers} and threads={self.threads}. Expected at least 1.")
