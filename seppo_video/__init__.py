"""Text-to-video families and their data."""

from seppo_core.io.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "animatediff": ["AnimateDiff"],
        "animatediff_sdxl": ["AnimateDiffXL"],
        "cogvideox": ["CogVideoX"],
        "config": ["VideoConfig"],
        "data": ["ClipFolder"],
        "hunyuan": ["HunyuanVideo"],
        "ltx": ["LTX"],
        "wan": ["Wan"],
    },
)
