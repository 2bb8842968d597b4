"""Diffusion-KTO."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seppo_core.config.methods.kto import KtoConfig
from seppo_core.methods.errors import accuracy, at_least_float32
from seppo_core.methods.method import Method
from seppo_core.methods.step import both_item_errors, held_item, item_pass, observed_drift, tied


class LabelledErrors(NamedTuple):
    """Errors ‖model(x_t, t, c) − target‖² of unpaired items with a label, averaged as in `Errors`; each (b,)."""

    policy: Float[Tensor, " b"]
    reference: Float[Tensor, " b"]
    desirable: Bool[Tensor, " b"]
    """Whether the label is good."""

    @property
    def gain(self) -> Float[Tensor, " b"]:
        """r − p: positive if the policy denoises the item better than the reference does."""
        return self.reference - self.policy


def kto_loss(
    errors: LabelledErrors, *, beta: float, baseline: Float[Tensor, ""], weights: tuple[float, float] = (1.0, 1.0)
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
            "implicit_accuracy": accuracy(margin),
            "share_desirable": desirable.float().mean(),
            "baseline": z,
            "gap_size": gain.abs().mean(),
        }
    return loss, metrics


class Kto(KtoConfig, Method):
    """Diffusion-KTO (arXiv 2404.04465, 2024): unpaired items with a label, against the initial weights."""

    @property
    def observes(self) -> bool:
        return True

    def observe(self, adapter, policy, reference, batch):
        with torch.no_grad():
            own, held = both_item_errors(adapter, policy, reference, batch)
        return {"gain": (held - own).mean()}

    def compute(self, adapter, policy, reference, batch, observed):
        held = held_item(adapter, reference, batch)
        own = item_pass(adapter, policy, batch)
        moved = observed_drift(reference, held, own, batch)
        errors = LabelledErrors(own.errors, tied(reference, held.errors, own.errors), batch.desirable)
        # the reference's residuals are not kept through the backward pass
        del held
        loss, metrics = kto_loss(errors, beta=self.beta, baseline=observed["gain"], weights=self.kto_weights)
        return loss, metrics | moved
