"""The winner-preserving guard that any loss with a counterpart may wear."""

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from seppo_core.methods.errors import at_least_float32


@torch.no_grad()
def guard_scale(
    winner_residual: Float[Tensor, " b *shape"],
    sample_residual: Float[Tensor, " b *shape"],
    push: Float[Tensor, " b"],
    *,
    mu: float,
) -> Float[Tensor, " b"]:
    """λ, (b,): by how much to scale the second sample's gradient so that a step does not raise the winner's error.

    λ = clamp((1 − μ)‖g_w‖² / ⟨g_l, g_w⟩, 0, 1) where ⟨g_l, g_w⟩ > 0, else 1 (Diffusion-SDPO, arXiv 2511.03317, 2025).
    The gradients are taken in output space, where they are the residuals, prediction − target, up to factors that
    cancel or are common to both. The second sample's enters as the loss uses it: `push` · residual, which is s where
    the loss is one of σ_w − s·σ_r, and `mapo_push` for MaPO. μ in [0, 1) is how much of the winner's own descent is
    kept.
    """
    return guard_limit(*guard_products(winner_residual, sample_residual, push), mu=mu)


@torch.no_grad()
def guard_products(
    winner_residual: Float[Tensor, " b *shape"], sample_residual: Float[Tensor, " b *shape"], push: Float[Tensor, " b"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """‖g_w‖² and ⟨g_l, g_w⟩ of `guard_scale`, (b,) each. Of a batch as a whole they are the sums over its samples."""
    g_w = at_least_float32(winner_residual).flatten(1)
    g_l = push[:, None] * at_least_float32(sample_residual).flatten(1)
    return g_w.square().sum(1), einsum(g_l, g_w, "b n, b n -> b")


def guard_limit(squared: Tensor, inner: Tensor, *, mu: float) -> Tensor:
    """λ of `guard_scale` from the products."""
    return torch.where(inner > 0, ((1 - mu) * squared / torch.where(inner > 0, inner, 1)).clamp(0, 1), 1)


def scale_gradient(x: Float[Tensor, " b"], scale: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The same values, with a gradient multiplied by `scale`."""
    return scale * x + ((1 - scale) * x).detach()
