"""Emotion recognition in recordings, from a folder of videos to a defensible result.

The public names are listed in ``__init__.pyi``. Each of them is imported when it is first used, so ``import affuse`` is
fast and loads neither torch nor pandas.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__.append("__version__")

__version__ = "0.2.0.dev0"
