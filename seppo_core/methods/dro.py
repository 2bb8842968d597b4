"""Diffusion-DRO."""

import torch
from jaxtyping import Float
from torch import Tensor

from seppo_core.config.methods.dro import DroConfig
from seppo_core.methods.contrastive import Contrastive
from seppo_core.methods.errors import Errors, at_least_float32, preference_metrics


def dro_loss(errors: Errors, *, margin: float) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Mean of max(0, σ_w − σ_l + margin) over the batch (Diffusion-DRO, arXiv 2510.18353, 2025).

    At equal policy and reference the loss is `margin`. `share_active` is the share of the pairs that still count; at 0
    nothing is learnt.
    """
    errors = Errors(*(at_least_float32(error) for error in errors))
    inside = errors.winner_gap - errors.sample_gap + margin
    metrics = preference_metrics(errors, torch.ones_like(errors.policy_winner), beta=1.0)
    # the margin of this loss does not saturate, and its sign is no anchor's
    metrics = {name: value for name, value in metrics.items() if name != "margin" and not name.startswith("share_s")}
    return inside.clamp(min=0).mean(), metrics | {"share_active": (inside > 0).float().mean()}


class Dro(DroConfig, Contrastive):
    """After Diffusion-DRO (arXiv 2510.18353, 2025): a hinge in place of DPO's logistic function, s = +1.

    The released code keeps states from within the sampling of a slowly updated policy in a replay buffer; here the
    negatives are whole samples of the policy at the iteration's start, noised anew.
    """

    def preference(self, errors, sign):
        return dro_loss(errors, margin=self.margin)
