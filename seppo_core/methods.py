"""What a run optimises: recipes of the same few parts."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from seppo_core.adapter import Adapter
from seppo_core.losses import Flipper, anchor_sign, seppo_loss, sft_loss
from seppo_core.reference import Reference
from seppo_core.step import Batch, pair_errors, winner_errors


class Method(ABC):
    """A loss over one batch. `uses_reference` says whether it needs reference samples and the reference's errors."""

    uses_reference: ClassVar[bool]

    @abstractmethod
    def loss(
        self, adapter: Adapter, policy: nn.Module, reference: Reference | None, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss with gradient to the policy, and scalars to watch."""


@dataclass(frozen=True)
class Seppo(Method):
    """SePPO (arXiv 2410.05255, 2024): winners against the reference's own samples, the anchor deciding each sign."""

    uses_reference: ClassVar[bool] = True
    beta: float
    flipper: Flipper = "sign"

    def loss(self, adapter, policy, reference, batch):
        errors = pair_errors(adapter, policy, reference, batch)
        return seppo_loss(errors, anchor_sign(errors, self.flipper), self.beta)


@dataclass(frozen=True)
class Sft(Method):
    """Supervised fine-tuning on the winners: the control that every preference method must be held against."""

    uses_reference: ClassVar[bool] = False

    def loss(self, adapter, policy, reference, batch):
        return sft_loss(winner_errors(adapter, policy, batch))
