"""Make the standard wheel of torchvision importable together with a CPU build of torch.

The operators of that wheel are linked to CUDA. If torch was built without CUDA they cannot be loaded, and ``import
torchvision`` fails with ``operator torchvision::nms does not exist``, which also breaks open_clip, timm and the image
models of transformers. No encoder uses these operators, so declaring their signatures is enough. If the wheels match,
nothing is declared.
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
def declare_missing_operators() -> torch.library.Library | None:
    """Make torchvision importable, before anything imports it; the cache keeps the declarations alive."""
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
