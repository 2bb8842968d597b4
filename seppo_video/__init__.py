"""Text-to-video families and their data."""

from seppo_core.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {"config": ["VideoConfig"], "data": ["ClipFolder"], "animatediff": ["AnimateDiff"]},
)
