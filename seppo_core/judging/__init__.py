"""Image scorers: PickScore, HPSv2, ImageReward, LAION aesthetic and CLIPScore, rebuilt on torch and transformers."""

from seppo_core.io.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
