"""Supervised fine-tuning on the winners alone."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import MethodConfig
from seppo_core.config.method_specs import MethodSpec


@dataclass(frozen=True, kw_only=True)
class SftConfig(MethodConfig):
    """Supervised fine-tuning on the winners alone."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="supervised fine-tuning",
        supervision="winners",
        counterpart="none",
        reference=None,
        implementation="seppo_core.methods.sft:Sft",
    )
    name: str = "sft"
