"""DiffusionNFT."""

import torch
from jaxtyping import Float
from torch import Tensor

from seppo_core.config.methods.nft import NftConfig
from seppo_core.methods.errors import squared_error
from seppo_core.methods.method import Method
from seppo_core.methods.step import item_pass

LEAST = 1e-5
"""Least mean absolute error that is divided by, as in the released code."""


def nft_loss(
    policy: Float[Tensor, " b *shape"],
    old: Float[Tensor, " b *shape"],
    reward: Float[Tensor, " b"],
    *,
    beta: float,
    clean_scale: Float[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Mean of r ‖v₊ − v‖² / β + (1 − r) ‖v₋ − v‖² / β over samples (DiffusionNFT, arXiv 2509.16117, 2025).

    `policy` and `old` are the residuals, prediction − v, of the policy and of the old policy that drew the samples, at
    least float32; `reward` is r in [0, 1]. The implicit policies are v± = v_old ± β (v_policy − v_old). With
    `clean_scale`, |∂x_0 / ∂prediction| of each sample, both squared errors are those of x_0, each divided by its own
    mean absolute error without gradient, as in the released code. The term that code adds against the weights before
    training is left out. Norms are means over elements.
    """
    old = old.detach()
    loss = 0.0
    for weight, side in ((reward, beta), (1 - reward, -beta)):
        residuals = torch.lerp(old, policy, side)
        error = squared_error(residuals)
        if clean_scale is not None:
            size = residuals.detach().abs().flatten(1).mean(1)
            error = clean_scale.square() * error / (clean_scale * size).clamp(min=LEAST)
        loss = loss + weight * error / beta
    with torch.no_grad():
        own, held = squared_error(policy), squared_error(old)
        metrics = {
            "policy_error": own.mean(),
            "drift": squared_error(policy - old).mean(),
            "reward": reward.mean(),
            "gap_size": (own - held).abs().mean(),
        }
    return loss.mean(), metrics


class Nft(NftConfig, Method):
    """DiffusionNFT (arXiv 2509.16117, 2025): online, on the forward process, for diffusions and flows alike.

    The reference is the old policy: a moving average of the policies at the iterations' starts. It draws the samples.
    """

    def compute(self, adapter, policy, reference, batch, observed):
        with reference.active() as frozen:
            held = item_pass(adapter, frozen, batch).residuals
        own = item_pass(adapter, policy, batch).residuals
        if reference.equals_policy:
            held = own.detach()
        scale = batch.noise_path.clean_scale(batch.t).to(own) if self.normalise else None
        weight = batch.noise_path.weight(batch.t).sqrt().view(-1, *[1] * (own.ndim - 1))
        return nft_loss(weight * own, weight * held, batch.reward, beta=self.beta, clean_scale=scale)
