"""SSPO, the semi-policy method of the paper's second version."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seppo_core.config.methods.sspo import SspoConfig
from seppo_core.methods.contrastive import Anchored
from seppo_core.methods.errors import Errors, at_least_float32, preference_metrics, sign_shares


def sspo_loss(errors: Errors, sign: Float[Tensor, " b"], *, beta: float) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """DPO's term where s = +1, the winner's error alone elsewhere.

    [s = +1] · −log σ(−β(σ_w − σ_r)) + [s ≠ +1] · (β/2) · p_w.
    Our reading of "switches from DPO to SFT" (SSPO, arXiv 2410.05255 v2, 2025). At equal weights the DPO branch has the
    gradient (β/2) ∇(p_w − p_l), so that β/2 makes the winner pull as hard in both branches.
    """
    errors = Errors(*(at_least_float32(error) for error in errors))
    preferred = -F.logsigmoid(-beta * (errors.winner_gap - errors.sample_gap))
    loss = torch.where(sign > 0, preferred, 0.5 * beta * errors.policy_winner).mean()
    # the margin is that of DPO's term, in which s is +1; the sign decides whether it enters the loss
    return loss, preference_metrics(errors, torch.ones_like(sign), beta) | sign_shares(sign)


class Sspo(SspoConfig, Anchored):
    """SSPO, as we read v2 of the paper (2025): DPO's term where s = +1, plain SFT where the reference is better."""

    flipper = "sign"

    def preference(self, errors, sign):
        return sspo_loss(errors, sign, beta=self.beta)
