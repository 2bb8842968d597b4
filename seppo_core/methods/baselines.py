"""Losses of the related methods, and the guard that any contrastive loss may wear; pure functions like `losses`."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from seppo_core.methods.losses import Errors, at_least_float32, preference_metrics

MAPO_SHARPNESS = 0.5
"""ς of MaPO: how fast the margin's measure of an error falls."""
MAPO_SCALE = 1000
"""T of MaPO: the number of diffusion steps, which its margin is multiplied by."""


class LabelledErrors(NamedTuple):
    """Errors ‖model(x_t, t, c) − target‖² of unpaired items with a label, averaged as in `Errors`; each (b,)."""

    policy: Float[Tensor, " b"]
    reference: Float[Tensor, " b"]
    desirable: Bool[Tensor, " b"]
    """Whether the label is good."""

    @property
    def gain(self) -> Float[Tensor, " b"]:
        """r − p: positive where the policy denoises the item better than the reference does."""
        return self.reference - self.policy


def sspo_loss(errors: Errors, sign: Float[Tensor, " b"], beta: float) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """DPO's term where s = +1, the winner's error alone elsewhere.

    [s = +1] · −log σ(−β(σ_w − σ_r)) + [s ≠ +1] · (β/2) · p_w.
    Our reading of "switches from DPO to SFT" (SSPO, arXiv 2410.05255 v2, 2025). At equal weights the DPO branch has the
    gradient (β/2) ∇(p_w − p_l), so that β/2 makes the winner pull as hard in both branches.
    """
    errors = Errors(*(at_least_float32(error) for error in errors))
    preferred = -F.logsigmoid(-beta * (errors.winner_gap - errors.sample_gap))
    loss = torch.where(sign > 0, preferred, 0.5 * beta * errors.policy_winner).mean()
    return loss, preference_metrics(errors, sign, beta)


def mapo_loss(
    policy_winner: Float[Tensor, " b"], policy_loser: Float[Tensor, " b"], beta: float
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
            "implicit_accuracy": _accuracy(margin),
        }
    return loss, metrics


def kto_loss(
    errors: LabelledErrors, beta: float, baseline: Float[Tensor, ""], weights: tuple[float, float] = (1.0, 1.0)
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """w_y (1 − σ(y β((r − p) − z))), y = ±1 the label (Diffusion-KTO, arXiv 2404.04465, 2024).

    `errors` has p and r of the same items. `baseline` is z: the mean of r − p over the global batch, without gradient;
    a negative one counts as 0. `weights` are w of desirable and of undesirable items.
    """
    errors = errors._replace(policy=at_least_float32(errors.policy), reference=at_least_float32(errors.reference))
    policy, gain, desirable = errors.policy, errors.gain, errors.desirable
    y = torch.where(desirable, 1.0, -1.0)
    weight = torch.where(desirable, *(gain.new_tensor(w) for w in weights))
    z = baseline.detach().clamp(min=0)
    loss = (weight * (1 - torch.sigmoid(y * beta * (gain - z)))).mean()
    with torch.no_grad():
        margin = beta * y * gain
        metrics = {
            "policy_error": policy.mean(),
            # over share_desirable they are the desirable items' means, whatever a micro-batch holds of them
            "desirable_error": (policy * desirable).mean(),
            "desirable_gap": (-gain * desirable).mean(),
            "margin": margin.mean(),
            "implicit_accuracy": _accuracy(margin),
            "share_desirable": desirable.float().mean(),
            "baseline": z,
            "gap_size": gain.abs().mean(),
        }
    return loss, metrics


def mapo_push(
    policy_winner: Float[Tensor, " b"], policy_loser: Float[Tensor, " b"], beta: float
) -> Float[Tensor, " b"]:
    """How hard `mapo_loss` pushes the loser's error up for every pull on the winner's, (b,), without gradient.

    −(∂L/∂p_l) / (∂L/∂p_w), where ∂L/∂p_w = 1 − βT σ(−m) h'(p_w) and ∂L/∂p_l = βT σ(−m) h'(p_l); m is the margin and
    h' < 0. It is 1 for a loss of p_w − p_l, and no constant here.
    """
    with torch.enable_grad():
        errors = [at_least_float32(error).detach().requires_grad_() for error in (policy_winner, policy_loser)]
        winner, loser = torch.autograd.grad(mapo_loss(*errors, beta)[0], errors)
    return -loser / winner


@torch.no_grad()
def guard_scale(
    winner_residual: Float[Tensor, " b *shape"],
    sample_residual: Float[Tensor, " b *shape"],
    push: Float[Tensor, " b"],
    mu: float,
) -> Float[Tensor, " b"]:
    """λ, (b,): by how much to scale the second sample's gradient so that a step does not raise the winner's error.

    λ = clamp((1 − μ)‖g_w‖² / ⟨g_l, g_w⟩, 0, 1) where ⟨g_l, g_w⟩ > 0, else 1 (Diffusion-SDPO, arXiv 2511.03317, 2025).
    The gradients are taken in output space, where they are the residuals, prediction − target, up to factors that
    cancel or are common to both. The second sample's enters as the loss uses it: `push` · residual, which is s where
    the loss is one of σ_w − s·σ_r, and `mapo_push` for MaPO. μ in [0, 1) is how much of the winner's own descent is
    kept.
    """
    g_w = at_least_float32(winner_residual).flatten(1)
    g_l = push[:, None] * at_least_float32(sample_residual).flatten(1)
    inner = einsum(g_l, g_w, "b n, b n -> b")
    limit = (1 - mu) * g_w.square().sum(1) / torch.where(inner > 0, inner, 1)
    return torch.where(inner > 0, limit.clamp(0, 1), 1)


def scale_gradient(x: Float[Tensor, " b"], scale: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The same values, with a gradient multiplied by `scale`."""
    return scale * x + ((1 - scale) * x).detach()


def _measure(error: Tensor) -> Tensor:
    """h(x) = ςx / (exp(ςx) − 1): 1 for no error, falling towards 0."""
    scaled = MAPO_SHARPNESS * error
    # 0 / 0 at a perfect prediction, where the limit is 1; the inner where keeps its gradient finite
    safe = torch.where(scaled == 0, torch.ones_like(scaled), scaled)
    return torch.where(scaled == 0, 1 - scaled / 2, safe / torch.expm1(safe))


def _accuracy(margin: Tensor) -> Tensor:
    return ((margin > 0).float() + 0.5 * (margin == 0).float()).mean()
