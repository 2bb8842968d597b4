"""Text-to-video families, their configs and their commands; `seppo_core` does the training.

    from seppo_video import Run
    Run.from_config("configs/video/wan21_1_3b_lora_seppo.yaml", {"method.beta": 1000}).train()

Importing this package imports no torch: every name below is imported when it is first used.
"""

from seppo_core.io.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
