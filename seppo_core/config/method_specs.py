"""The facts about a training method that other packages need without importing its loss. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

Supervision = Literal["winners", "pairs", "labels", "prompts"]
"""Content of a data set: winners alone, pairs of winner and loser, items labelled good or bad, or captions alone."""
Ranking = Literal["winners", "pairs", "labels"]
"""What a judge's choice among samples of one caption can become."""
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

    @property
    def pairs_candidates(self) -> bool:
        """Whether a judge's best of several samples is one item; else each of them is an item with its score."""
        return self.supervision != "prompts"

    def learns_from(self, supervision: Supervision) -> bool:
        """Whether a cache of `supervision` serves. A pair contains a winner; a labelled item need not be one. For
        captions alone a judge chooses winners, and losers, among the policy's samples."""
        if supervision == "prompts":
            return self.supervision != "labels"
        return supervision == self.supervision or (self.supervision, supervision) == ("winners", "pairs")
