"""MaPO: pairs without a reference."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import CounterpartConfig
from seppo_core.config.method_specs import MethodSpec
from seppo_core.config.validators import above


@dataclass(frozen=True, kw_only=True)
class MapoConfig(CounterpartConfig):
    """MaPO: pairs without a reference."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="MaPO, arXiv 2406.06424, 2024",
        supervision="pairs",
        counterpart="loser",
        reference=None,
        implementation="seppo_core.methods.mapo:Mapo",
    )
    name: str = "mapo"
    beta: float = 0.1
    """Strength of the preference term."""

    def __post_init__(self):
        super().__post_init__()
        above("method", self, 0, "beta")
