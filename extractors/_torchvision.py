"""Lets torchvision's ordinary wheel be imported beside a CPU build of torch.

That wheel's operators are linked to CUDA. Where torch is built without it they cannot be loaded,
and `import torchvision` fails at ``operator torchvision::nms does not exist``, and with it
open_clip, timm and the picture half of transformers. None of them needs those operators to encode
a picture, so declaring their signatures is enough. With a matching pair nothing is declared.
"""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import torch

SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def mend() -> torch.library.Library | None:
    """Make torchvision importable; to be called before anything imports it.

    Returns
    -------
    torch.library.Library or None
        What holds the declarations; None where there is nothing to mend. The cache keeps it alive.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or "torchvision" in sys.modules:
        return None
    for binary in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(binary)  # type: ignore[no-untyped-call]
            return None
        except OSError:
            continue
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for signature in SIGNATURES:
        library.define(signature)  # type: ignore[no-untyped-call]
    return library
