"""Supervised fine-tuning."""

from jaxtyping import Float
from torch import Tensor

from seppo_core.config.methods.sft import SftConfig
from seppo_core.methods.errors import at_least_float32
from seppo_core.methods.method import Method
from seppo_core.methods.step import item_errors


def sft_loss(policy_winner: Float[Tensor, " b"]) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Mean error of the policy on the winners: supervised fine-tuning, no sample and no reference."""
    policy_winner = at_least_float32(policy_winner)
    return policy_winner.mean(), {"winner_error": policy_winner.detach().mean()}


class Sft(SftConfig, Method):
    """Supervised fine-tuning on the winners: the control that every preference method must be held against."""

    def compute(self, adapter, policy, reference, batch, observed):
        return sft_loss(item_errors(adapter, policy, batch))
