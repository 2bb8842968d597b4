"""The common ground of the methods that set winners against counterparts and measure both against a reference."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seppo_core.config.method import AnchoredConfig, ReferenceLossConfig
from seppo_core.config.method_specs import Flipper
from seppo_core.methods.errors import Errors, anchor_sign, at_least_float32, flip, preference_metrics
from seppo_core.methods.guard import guard_limit, guard_scale, scale_gradient
from seppo_core.methods.method import Method, Scalars
from seppo_core.methods.reference import Reference
from seppo_core.methods.step import (
    Batch,
    anchor_gap,
    both_item_errors,
    held_pair,
    observed_drift,
    observed_guard,
    pair_of,
    pair_pass,
)
from seppo_core.models.adapter import Adapter


def seppo_loss(
    errors: Errors, sign: Float[Tensor, " b"], *, beta: float
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Mean of −log σ(−β(σ_w − s·σ_r)) over the batch, and what to watch (SePPO, arXiv 2410.05255, 2024).

    `sign` = +1 everywhere is Diffusion-DPO (arXiv 2311.12908, 2023). At equal policy and reference the loss is log 2.
    The metrics are float32 scalars without gradient.
    """
    errors = Errors(*(at_least_float32(error) for error in errors))
    margin = -(errors.winner_gap - sign * errors.sample_gap)
    loss = -F.logsigmoid(beta * margin).mean()
    return loss, preference_metrics(errors, sign, beta)


class Contrastive(ReferenceLossConfig, Method, ABC):
    """Winners against counterparts, both measured against a reference; the sign s is +1 unless an anchor decides."""

    flipper: ClassVar[Flipper] = "off"

    @abstractmethod
    def preference(self, errors: Errors, sign: Float[Tensor, " b"]) -> tuple[Tensor, Scalars]:
        """The loss of errors and signs, and scalars to watch."""

    @property
    def observes(self) -> bool:
        return self.guards_batch

    def observe(self, adapter, policy, reference, batch):
        return (
            observed_guard(adapter, policy, batch, lambda w, _: torch.ones_like(w.errors)) if self.guards_batch else {}
        )

    def compute(self, adapter, policy, reference, batch, observed):
        # every pass of the reference, and every one without gradient, before the one that the gradient goes through
        better = self._better(adapter, policy, reference, batch, observed)
        held = held_pair(adapter, reference, batch)
        winner, counterpart = pair_pass(adapter, policy, batch)
        errors = pair_of(reference, winner.errors, counterpart.errors, *(one.errors for one in held))
        metrics = observed_drift(reference, held[0], winner, batch)
        # the reference's residuals are not kept through the backward pass
        del held
        if better is None:
            sign = anchor_sign(errors, self.flipper)
        else:
            sign = flip(better, self.flipper, errors.policy_winner.dtype)
        if self.guard is not None:
            scale = guard_scale(winner.residuals, counterpart.residuals, sign, mu=self.guard)
            if self.guards_batch:
                scale = guard_limit(observed["guard_squared"], observed["guard_inner"], mu=self.guard).expand_as(scale)
            errors = errors._replace(policy_sample=scale_gradient(errors.policy_sample, scale))
            metrics |= {"guard_scale": scale.mean()}
        loss, watched = self.preference(errors, sign)
        if self.flipper == "off":
            # nothing has decided them
            watched = {name: value for name, value in watched.items() if not name.startswith("share_s_")}
        if self.sft_weight:
            metrics |= {"preference_loss": loss.detach()}
            loss = loss + self.sft_weight * errors.policy_winner.mean()
        return loss, watched | metrics

    def _better(
        self, adapter: Adapter, policy: nn.Module, reference: Reference, batch: Batch, observed: Scalars
    ) -> Bool[Tensor, " b"] | None:
        """Whether the policy is better than the reference on each winner; None if the loss's own errors decide."""
        return None


class Logistic(Contrastive, ABC):
    """The loss −log σ(−β(σ_w − s·σ_r)), see `seppo_loss`."""

    beta: float

    def preference(self, errors, sign):
        return seppo_loss(errors, sign, beta=self.beta)


class Anchored(AnchoredConfig, Contrastive, ABC):
    """An anchor decides the sign s: for each sample by the draw of the loss as in the paper, or by the mean of
    `anchor_draws` further draws, or once for the whole batch by the mean over it (`anchor_scope`)."""

    @property
    def observes(self) -> bool:
        return self.anchor_scope == "batch" or super().observes

    def observe(self, adapter, policy, reference, batch):
        if self.anchor_scope == "sample":
            return super().observe(adapter, policy, reference, batch)
        if self.anchor_draws:
            gap = anchor_gap(adapter, policy, reference, batch)
        else:
            with torch.no_grad():
                own, held = both_item_errors(adapter, policy, reference, batch)
            gap = own - held
        return {"anchor_gap": gap.mean()}

    def _better(self, adapter, policy, reference, batch, observed):
        if self.anchor_scope == "batch":
            return (observed["anchor_gap"] < 0).expand(len(batch.t))
        return anchor_gap(adapter, policy, reference, batch) < 0 if self.anchor_draws else None
