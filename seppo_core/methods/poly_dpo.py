"""Poly-DPO."""

import torch
from jaxtyping import Float
from torch import Tensor

from seppo_core.config.methods.poly_dpo import PolyDpoConfig
from seppo_core.methods.contrastive import Contrastive, seppo_loss
from seppo_core.methods.errors import Errors, at_least_float32


def poly_dpo_loss(errors: Errors, *, beta: float, alpha: float) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Mean of −log p + α(1 − p), p = σ(−β(σ_w − σ_l)), over the batch (Poly-DPO, arXiv 2604.24953, 2026).

    At equal policy and reference the loss is log 2 + α / 2.
    """
    errors = Errors(*(at_least_float32(error) for error in errors))
    loss, metrics = seppo_loss(errors, torch.ones_like(errors.policy_winner), beta=beta)
    # 1 − σ(x) = σ(−x), which keeps its digits where the pair is told apart well
    doubt = torch.sigmoid(beta * (errors.winner_gap - errors.sample_gap)).mean()
    return loss + alpha * doubt, metrics


class PolyDpo(PolyDpoConfig, Contrastive):
    """Poly-DPO (arXiv 2604.24953, 2026): human pairs, the initial weights as reference, s = +1."""

    def preference(self, errors, sign):
        return poly_dpo_loss(errors, beta=self.beta, alpha=self.alpha)
