"""DSPO."""

import torch
from jaxtyping import Float
from torch import Tensor

from seppo_core.config.methods.dspo import DspoConfig
from seppo_core.methods.errors import Errors, at_least_float32, preference_metrics
from seppo_core.methods.method import Method
from seppo_core.methods.step import drift, pair_of, pair_pass


def dspo_loss(
    errors: Errors, winner_drift: Float[Tensor, " b"], *, beta: float
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Mean of ‖policy − target − κ(policy − reference)‖² on the winners, κ = 2β(1 − σ(m)) (DSPO, ICLR 2025).

    m = −β(σ_w − σ_l) is DPO's margin. `winner_drift` is ‖policy − reference‖² on each winner, averaged over its
    elements as the errors are. With it the squared norm is a polynomial of the errors, p − κ(p − r + d) + κ²d, for
    2⟨policy − target, policy − reference⟩ = p − r + d. κ carries gradient, as in the released code for SD-1.5; its
    code for SDXL is another one, with a threshold, and is not followed.
    """
    errors, d = Errors(*(at_least_float32(error) for error in errors)), at_least_float32(winner_drift)
    p, r = errors.policy_winner, errors.reference_winner
    kappa = 2 * beta * torch.sigmoid(beta * (errors.winner_gap - errors.sample_gap))
    loss = (p - kappa * (p - r + d) + kappa.square() * d).mean()
    metrics = preference_metrics(errors, torch.ones_like(p), beta)
    metrics = {name: value for name, value in metrics.items() if not name.startswith("share_s")}
    return loss, metrics | {"drift": d.detach().mean()}


class Dspo(DspoConfig, Method):
    """DSPO (ICLR 2025), as its code has it for SD-1.5: human pairs, one noise, the initial weights as reference."""

    def compute(self, adapter, policy, reference, batch, observed):
        with reference.active() as frozen:
            held = pair_pass(adapter, frozen, batch)
        own = pair_pass(adapter, policy, batch)
        errors = pair_of(reference, *(one.errors for one in own), *(one.errors for one in held))
        return dspo_loss(errors, drift(reference, held[0], own[0], batch), beta=self.beta)
