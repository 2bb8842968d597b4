"""The named methods as a table: what each learns from, against what, and its defaults. Without torch.

The losses themselves are in `seppo_core.methods`.
"""

from dataclasses import dataclass
from typing import Literal

Form = Literal["winners", "pairs", "labels"]
"""What a data set holds: winners alone, pairs of winner and loser, or items labelled good or bad."""
Second = Literal["generated", "loser", "none"]
"""What stands beside the winner: a sample of the reference, the pair's loser, or nothing."""
Strategy = Literal["random", "latest", "initial"]
"""Which snapshot is the reference: a uniform draw from all so far, the newest, or always the base."""
Flipper = Literal["sign", "indicator", "off"]
"""What becomes of the second sample where the reference beats the policy: a winner, nothing, still a loser."""


@dataclass(frozen=True)
class Recipe:
    """One method. `strategy`, `flipper` and `beta` are its defaults, None where the method has no such thing.

    `choices` names those of "strategy" and "flipper" that a config may set; the others make the method what it is.
    """

    form: Form
    second: Second
    strategy: Strategy | None
    flipper: Flipper | None
    beta: float | None
    source: str
    choices: tuple[str, ...] = ()

    @property
    def uses_reference(self) -> bool:
        """Whether a reference's errors enter the loss."""
        return self.strategy is not None

    def learns_from(self, form: Form) -> bool:
        """Whether a cache of `form` serves: a pair has a winner, an item labelled good or bad may have none."""
        return form == self.form or (self.form, form) == ("winners", "pairs")

    @property
    def contrastive(self) -> bool:
        """Whether the loss sets a winner against a second sample."""
        return self.second != "none"


RECIPES = {
    "seppo": Recipe(
        "winners", "generated", "random", "sign", 2000, "SePPO, arXiv 2410.05255, 2024", ("strategy", "flipper")
    ),
    "sspo": Recipe("winners", "generated", "random", "sign", 2000, "arXiv 2410.05255 v2, 2025", ("strategy",)),
    "sft": Recipe("winners", "none", None, None, None, "supervised fine-tuning"),
    "dpo": Recipe("pairs", "loser", "initial", "off", 2000, "Diffusion-DPO, arXiv 2311.12908, 2023"),
    "spin": Recipe("winners", "generated", "latest", "off", 2000, "SPIN-Diffusion, arXiv 2402.10210, 2024"),
    "ditto": Recipe("winners", "generated", "initial", "off", 2000, "after DITTO, arXiv 2406.00888, 2024"),
    "mapo": Recipe("pairs", "loser", None, None, 0.1, "MaPO, arXiv 2406.06424, 2024"),
    "kto": Recipe("labels", "none", "initial", None, 5000, "Diffusion-KTO, arXiv 2404.04465, 2024"),
}
"""By the name in `method.name`."""
