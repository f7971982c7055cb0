"""The small corpus of the tests of training."""

from ..training.conftest import corpus

__all__ = ["corpus"]
