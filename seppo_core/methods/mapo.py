"""MaPO."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seppo_core.config.methods.mapo import MapoConfig
from seppo_core.methods.errors import accuracy, at_least_float32
from seppo_core.methods.guard import guard_limit, guard_scale, scale_gradient
from seppo_core.methods.method import Method
from seppo_core.methods.step import observed_guard, pair_pass

MAPO_SHARPNESS = 0.5
"""ς of MaPO: how fast the margin's measure of an error falls."""
MAPO_SCALE = 1000
"""T of MaPO: the number of diffusion steps, which its margin is multiplied by."""


def mapo_loss(
    policy_winner: Float[Tensor, " b"], policy_loser: Float[Tensor, " b"], *, beta: float
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """p_w − β log σ(T · (h(p_w) − h(p_l))), h(x) = ςx / (exp(ςx) − 1): no reference (MaPO, arXiv 2406.06424, 2024)."""
    winner, loser = at_least_float32(policy_winner), at_least_float32(policy_loser)
    margin = MAPO_SCALE * (_measure(winner) - _measure(loser))
    loss = (winner - beta * F.logsigmoid(margin)).mean()
    with torch.no_grad():
        metrics = {
            "winner_error": winner.mean(),
            "sample_error": loser.mean(),
            "margin": margin.mean(),
            "implicit_accuracy": accuracy(margin),
        }
    return loss, metrics


def mapo_push(
    policy_winner: Float[Tensor, " b"], policy_loser: Float[Tensor, " b"], *, beta: float
) -> Float[Tensor, " b"]:
    """How hard `mapo_loss` pushes the loser's error up for every pull on the winner's, (b,), without gradient.

    −(∂L/∂p_l) / (∂L/∂p_w), where ∂L/∂p_w = 1 − βT σ(−m) h'(p_w) and ∂L/∂p_l = βT σ(−m) h'(p_l); m is the margin and
    h' < 0. It is 1 for a loss of p_w − p_l, and no constant here.
    """
    with torch.enable_grad():
        errors = [at_least_float32(error).detach().requires_grad_() for error in (policy_winner, policy_loser)]
        winner, loser = torch.autograd.grad(mapo_loss(*errors, beta=beta)[0], errors)
    return -loser / winner


def _measure(error: Tensor) -> Tensor:
    """h(x) = ςx / (exp(ςx) − 1): 1 for no error, falling towards 0."""
    scaled = MAPO_SHARPNESS * error
    # 0 / 0 at a perfect prediction, where the limit is 1; the inner where keeps its gradient finite
    safe = torch.where(scaled == 0, torch.ones_like(scaled), scaled)
    return torch.where(scaled == 0, 1 - scaled / 2, safe / torch.expm1(safe))


class Mapo(MapoConfig, Method):
    """MaPO (arXiv 2406.06424, 2024): pairs and no reference at all, neither in memory nor in the loss."""

    @property
    def observes(self) -> bool:
        return self.guards_batch

    def observe(self, adapter, policy, reference, batch):
        if not self.guards_batch:
            return {}
        push = lambda winner, loser: mapo_push(winner.errors, loser.errors, beta=self.beta)  # noqa: E731
        return observed_guard(adapter, policy, batch, push)

    def compute(self, adapter, policy, reference, batch, observed):
        winner, loser = pair_pass(adapter, policy, batch)
        if self.guard is None:
            return mapo_loss(winner.errors, loser.errors, beta=self.beta)
        push = mapo_push(winner.errors, loser.errors, beta=self.beta)
        scale = guard_scale(winner.residuals, loser.residuals, push, mu=self.guard)
        if self.guards_batch:
            scale = guard_limit(observed["guard_squared"], observed["guard_inner"], mu=self.guard).expand_as(scale)
        loss, metrics = mapo_loss(winner.errors, scale_gradient(loser.errors, scale), beta=self.beta)
        return loss, metrics | {"guard_scale": scale.mean()}
