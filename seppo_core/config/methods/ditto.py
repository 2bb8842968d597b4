"""DITTO: winners against samples of the base."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import LogisticConfig
from seppo_core.config.method_specs import MethodSpec


@dataclass(frozen=True, kw_only=True)
class DittoConfig(LogisticConfig):
    """DITTO: winners against samples of the base."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="after DITTO, arXiv 2406.00888, 2024",
        supervision="winners",
        counterpart="generated",
        reference="initial",
        implementation="seppo_core.methods.ditto:Ditto",
    )
    name: str = "ditto"
