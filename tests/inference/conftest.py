"""The small corpus of the tests of training."""

from ..training.conftest import corpus, quick

__all__ = ["corpus", "quick"]
