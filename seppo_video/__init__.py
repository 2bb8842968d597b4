"""Text-to-video families, their configs and their commands; `seppo_core` does the training.

    from seppo_video import VideoConfig, train
    from seppo_core import load_config
    train(load_config("configs/video/wan21_1_3b_lora_seppo.yaml", VideoConfig, {"method.beta": 1000}))

Importing this package imports no torch: every name below is imported when it is first used.
"""

from seppo_core.io.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
