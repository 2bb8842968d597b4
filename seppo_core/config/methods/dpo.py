"""Diffusion-DPO: pairs, with the base as reference."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import LogisticConfig
from seppo_core.config.method_specs import MethodSpec


@dataclass(frozen=True, kw_only=True)
class DpoConfig(LogisticConfig):
    """Diffusion-DPO: pairs, with the base as reference."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="Diffusion-DPO, arXiv 2311.12908, 2023",
        supervision="pairs",
        counterpart="loser",
        reference="initial",
        implementation="seppo_core.methods.dpo:Dpo",
    )
    name: str = "dpo"
