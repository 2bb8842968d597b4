"""DSPO: pairs; the winner's target is moved by how badly the pair is told apart."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import MethodConfig, Noise
from seppo_core.config.method_specs import MethodSpec
from seppo_core.config.validators import above


@dataclass(frozen=True, kw_only=True)
class DspoConfig(MethodConfig):
    """DSPO: pairs; the winner's target is moved by how badly the pair is told apart."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="DSPO, ICLR 2025",
        supervision="pairs",
        counterpart="loser",
        reference="initial",
        implementation="seppo_core.methods.dspo:Dspo",
    )
    name: str = "dspo"
    beta: float = 0.005
    """Strength of the preference, which multiplies differences of mean errors. The values 0.001 to 0.05 that its
    authors search correspond to half of them here."""

    def __post_init__(self):
        super().__post_init__()
        above("method", self, 0, "beta")

    @property
    def noise(self) -> Noise:
        # winner and loser share one noise in the released code
        return "shared"

    @property
    def needs_prediction(self) -> bool:
        return True
