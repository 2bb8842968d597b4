"""The facts about a training method that other packages need without importing its loss. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

Supervision = Literal["winners", "pairs", "labels"]
"""Content of a data set: winners alone, pairs of winner and loser, or items labelled good or bad."""
Counterpart = Literal["generated", "loser", "none"]
"""The counterpart of the winner in the loss: a sample of the reference, the loser of the pair, or nothing."""
Strategy = Literal["random", "latest", "initial"]
"""Which snapshot is the reference: a uniform draw from all so far, the newest, or always the base."""
Flipper = Literal["sign", "indicator", "off"]
"""Role of the reference's sample if the reference beats the policy: a winner, ignored, or still a loser."""


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """Constants of one method, as opposed to the options that a user may set."""

    source: str
    """Paper and year."""
    supervision: Supervision
    counterpart: Counterpart
    reference: Strategy | None
    """Snapshot that the loss compares with, unless the method has an option for it; None if it needs no reference."""
    implementation: str
    """The class, as "package.module:Class"."""

    @property
    def uses_reference(self) -> bool:
        """Whether errors of a reference enter the loss."""
        return self.reference is not None

    @property
    def contrastive(self) -> bool:
        """Whether the loss sets a winner against a counterpart."""
        return self.counterpart != "none"

    def learns_from(self, supervision: Supervision) -> bool:
        """Whether a cache of `supervision` serves. A pair contains a winner; a labelled item need not be one."""
        return supervision == self.supervision or (self.supervision, supervision) == ("winners", "pairs")
