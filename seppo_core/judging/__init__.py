"""Image scorers: PickScore, HPSv2, ImageReward, LAION aesthetic and CLIPScore, rebuilt on torch and transformers."""

from seppo_core.io.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "base": ["Scorer"],
        "pickscore": ["PickScore"],
        "hpsv2": ["HPSv2"],
        "image_reward": ["ImageReward"],
        "aesthetic": ["Aesthetic"],
        "clip_score": ["CLIPScore"],
        "open_clip_score": ["OpenCLIPScore"],
        "catalogue": ["SCORERS", "load_scorer"],
        "doctor": ["Need", "diagnose"],
    },
)
