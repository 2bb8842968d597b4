"""Denoising errors of policy and reference, the anchor that compares them, and what to watch of them.

Every error is *averaged* over channels, frames and pixels; `beta` multiplies differences of such averages and nothing
else. Diffusion-DPO's released code carries a hidden 0.5: its `beta_dpo=5000` is `beta=2500` here.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seppo_core.config.method_specs import Flipper


class Errors(NamedTuple):
    """Per-sample errors ‖model(x_t, t, c) − target‖², averaged over the sample's elements; each (b,).

    `sample` is the counterpart: what the reference generated for the same caption, or the loser of a pair.
    """

    policy_winner: Float[Tensor, " b"]
    policy_sample: Float[Tensor, " b"]
    reference_winner: Float[Tensor, " b"]
    reference_sample: Float[Tensor, " b"]

    @property
    def winner_gap(self) -> Float[Tensor, " b"]:
        """σ_w: negative if the policy denoises the winner better than the reference does."""
        return self.policy_winner - self.reference_winner

    @property
    def sample_gap(self) -> Float[Tensor, " b"]:
        """σ_r: positive if the policy has moved away from the reference's sample."""
        return self.policy_sample - self.reference_sample


def residual(prediction: Float[Tensor, " b *shape"], target: Float[Tensor, " b *shape"]) -> Float[Tensor, " b *shape"]:
    """prediction − target. Half precision is raised to float32 first: a bfloat16 mean of squares resolves only about 9
    logits at beta = 2000. float64 stays float64."""
    return at_least_float32(prediction) - at_least_float32(target)


def squared_error(residuals: Float[Tensor, " b *shape"]) -> Float[Tensor, " b"]:
    """Mean squared error of each sample, (b,)."""
    return residuals.square().flatten(1).mean(1)


def anchor_sign(errors: Errors, flipper: Flipper = "sign") -> Float[Tensor, " b"]:
    """The anchor-based adaptive flipper s, (b,), without gradient (SePPO, arXiv 2410.05255, 2024).

    +1 if the policy beats the reference on the winner: the reference's sample is then a loser. Otherwise, a tie
    included, "sign" gives −1 (the sample counts as a second winner) and "indicator" gives 0 (only the winner's term
    is left). "off" is +1 everywhere, which is Diffusion-DPO.
    """
    return flip((errors.reference_winner > errors.policy_winner).detach(), flipper, errors.policy_winner.dtype)


def flip(better: Bool[Tensor, " b"], flipper: Flipper, dtype: torch.dtype = torch.float32) -> Float[Tensor, " b"]:
    """The sign, (b,), from whether the policy is `better` than the reference on each winner; see `anchor_sign`."""
    dtype = torch.promote_types(dtype, torch.float32)
    if flipper == "sign":
        return better.to(dtype) * 2 - 1
    if flipper == "indicator":
        return better.to(dtype)
    if flipper == "off":
        return torch.ones_like(better, dtype=dtype)
    raise ValueError(f'flipper={flipper!r} is not known; use "sign", "indicator" or "off"')


@torch.no_grad()
def preference_metrics(errors: Errors, sign: Float[Tensor, " b"], beta: float) -> dict[str, Tensor]:
    """Batch means by name; they add up over micro-batches of equal size.

    The loss stays near log 2 while a model improves and falls while it collapses, so look at `winner_error` (should not
    rise) and at the shares of s. The paper defines its "AAF rate" as the share of s = −1 but explains the opposite;
    both shares are given by name. `implicit_accuracy` is how often the signed margin is positive, ties counting half.
    """
    margin = -(errors.winner_gap - sign * errors.sample_gap)
    return {
        "winner_error": errors.policy_winner.mean(),
        "sample_error": errors.policy_sample.mean(),
        "winner_gap": errors.winner_gap.mean(),
        "sample_gap": errors.sample_gap.mean(),
        "margin": beta * margin.mean(),
        "implicit_accuracy": accuracy(margin),
        **sign_shares(sign),
        "gap_size": errors.winner_gap.abs().mean(),
    }


def sign_shares(sign: Float[Tensor, " b"]) -> dict[str, Tensor]:
    """Shares of the batch by their sign."""
    return {
        "share_s_plus": (sign > 0).float().mean(),
        "share_s_minus": (sign < 0).float().mean(),
        "share_s_zero": (sign == 0).float().mean(),
    }


def accuracy(margin: Tensor) -> Tensor:
    """Share of the margins above 0, ties counting half."""
    return ((margin > 0).float() + 0.5 * (margin == 0).float()).mean()


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision raised to float32; float64 left alone."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
