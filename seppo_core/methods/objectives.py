"""What a run optimises: the options of `seppo_core.config.methods` with their losses."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from seppo_core.config.method import AnchoredConfig, MethodConfig, ReferenceLossConfig
from seppo_core.config.method_specs import Flipper
from seppo_core.config.methods.ditto import DittoConfig
from seppo_core.config.methods.dpo import DpoConfig
from seppo_core.config.methods.kto import KtoConfig
from seppo_core.config.methods.mapo import MapoConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.methods.sft import SftConfig
from seppo_core.config.methods.spin import SpinConfig
from seppo_core.config.methods.sspo import SspoConfig
from seppo_core.methods.baselines import (
    LabelledErrors,
    guard_scale,
    kto_loss,
    mapo_loss,
    mapo_push,
    scale_gradient,
    sspo_loss,
)
from seppo_core.methods.losses import Errors, anchor_sign, flip, seppo_loss, sft_loss
from seppo_core.methods.reference import Reference
from seppo_core.methods.step import Batch, anchor_gap, item_errors, pair_of, pair_pass, reference_pair, tied
from seppo_core.models.adapter import Adapter

Scalars = dict[str, Tensor]


class Method(MethodConfig, ABC):
    """A loss over one micro-batch, and what of the whole batch it has to know first.

    Every method derives from its options too, e.g. `class Kto(KtoConfig, Method)`, and is built from them by keyword:
    `Kto(beta=5000)`.
    """

    @property
    def observes(self) -> bool:
        """Whether `observe` has to run over the whole batch, on all processes, before `loss`."""
        return False

    def observe(self, adapter: Adapter, policy: nn.Module, reference: Reference | None, batch: Batch) -> Scalars:
        """Scalars of a micro-batch, without gradient; `loss` is given their mean over the global batch."""
        return {}

    @abstractmethod
    def loss(
        self, adapter: Adapter, policy: nn.Module, reference: Reference | None, batch: Batch, observed: Scalars
    ) -> tuple[Tensor, Scalars]:
        """Scalar loss with gradient to the policy, and scalars to watch."""


class Sft(SftConfig, Method):
    """Supervised fine-tuning on the winners: the control that every preference method must be held against."""

    def loss(self, adapter, policy, reference, batch, observed):
        return sft_loss(item_errors(adapter, policy, batch))


class Contrastive(ReferenceLossConfig, Method):
    """Winners against counterparts, both measured against a reference: −log σ(−β(σ_w − s·σ_r)), with s = +1."""

    beta: float

    def loss(self, adapter, policy, reference, batch, observed):
        # every pass of the reference, and every one without gradient, before the one that the gradient goes through
        averaged = self.anchor_draws and not self.observes
        gap = anchor_gap(adapter, policy, reference, batch) if averaged else None
        held = reference_pair(adapter, reference, batch)
        winner, sample = pair_pass(adapter, policy, batch)
        errors = pair_of(reference, winner.errors, sample.errors, *held)
        sign = self._sign(errors, gap, observed)
        metrics = {}
        if self.guard is not None:
            scale = guard_scale(winner.residuals, sample.residuals, sign, self.guard)
            errors = errors._replace(policy_sample=scale_gradient(errors.policy_sample, scale))
            metrics = {"guard_scale": scale.mean()}
        loss, watched = self.preference(errors, sign)
        if self.sft_weight:
            metrics |= {"preference_loss": loss.detach()}
            loss = loss + self.sft_weight * errors.policy_winner.mean()
        return loss, watched | metrics

    def preference(self, errors: Errors, sign: Tensor) -> tuple[Tensor, Scalars]:
        """The loss of errors and signs, and scalars to watch."""
        return seppo_loss(errors, sign, self.beta)

    def _sign(self, errors: Errors, gap: Tensor | None, observed: Scalars) -> Tensor:
        return anchor_sign(errors, "off")


class Anchored(AnchoredConfig, Contrastive):
    """The sign s is decided for each sample by one draw as in the paper, by the mean of `anchor_draws` further draws,
    or once for the whole batch by the mean over it (`anchor_scope`)."""

    flipper: Flipper

    @property
    def observes(self) -> bool:
        return self.anchor_scope == "batch"

    def observe(self, adapter, policy, reference, batch):
        return {"anchor_gap": self._gap(adapter, policy, reference, batch).mean()} if self.observes else {}

    def _sign(self, errors: Errors, gap: Tensor | None, observed: Scalars) -> Tensor:
        if self.anchor_scope == "batch":
            better = (observed["anchor_gap"] < 0).expand(len(errors.policy_winner))
        elif gap is not None:
            better = gap < 0
        else:
            return anchor_sign(errors, self.flipper)
        return flip(better, self.flipper, errors.policy_winner.dtype)

    def _gap(self, adapter: Adapter, policy: nn.Module, reference: Reference, batch: Batch) -> Tensor:
        if self.anchor_draws:
            return anchor_gap(adapter, policy, reference, batch)
        with reference.active() as frozen:
            held = item_errors(adapter, frozen, batch)
        with torch.no_grad():
            own = item_errors(adapter, policy, batch)
        return own - tied(reference, held, own)


class Seppo(SeppoConfig, Anchored):
    """SePPO (arXiv 2410.05255, 2024): against the reference's own samples, the anchor deciding each sign."""


class Sspo(SspoConfig, Anchored):
    """SSPO, as we read v2 of the paper (2025): DPO's term where s = +1, plain SFT where the reference is better."""

    flipper = "sign"

    def preference(self, errors, sign):
        return sspo_loss(errors, sign, self.beta)


class Dpo(DpoConfig, Contrastive):
    """Diffusion-DPO (arXiv 2311.12908, 2023), eq. 14: human pairs, the initial weights as reference, s = +1."""


class Spin(SpinConfig, Contrastive):
    """SPIN-Diffusion (arXiv 2402.10210, 2024): against the newest snapshot's own samples, s = +1."""


class Ditto(DittoConfig, Contrastive):
    """After DITTO (arXiv 2406.00888, 2024): against the base's own samples, s = +1."""


class Mapo(MapoConfig, Method):
    """MaPO (arXiv 2406.06424, 2024): pairs and no reference at all, neither in memory nor in the loss."""

    def loss(self, adapter, policy, reference, batch, observed):
        winner, loser = pair_pass(adapter, policy, batch)
        if self.guard is None:
            return mapo_loss(winner.errors, loser.errors, self.beta)
        push = mapo_push(winner.errors, loser.errors, self.beta)
        scale = guard_scale(winner.residuals, loser.residuals, push, self.guard)
        loss, metrics = mapo_loss(winner.errors, scale_gradient(loser.errors, scale), self.beta)
        return loss, metrics | {"guard_scale": scale.mean()}


class Kto(KtoConfig, Method):
    """Diffusion-KTO (arXiv 2404.04465, 2024): unpaired items with a label, against the initial weights."""

    @property
    def observes(self) -> bool:
        return True

    def observe(self, adapter, policy, reference, batch):
        with reference.active() as frozen:
            held = item_errors(adapter, frozen, batch)
        with torch.no_grad():
            own = item_errors(adapter, policy, batch)
        return {"gain": (tied(reference, held, own) - own).mean()}

    def loss(self, adapter, policy, reference, batch, observed):
        with reference.active() as frozen:
            held = item_errors(adapter, frozen, batch)
        own = item_errors(adapter, policy, batch)
        errors = LabelledErrors(own, tied(reference, held, own), batch.desirable)
        return kto_loss(errors, self.beta, observed["gain"], self.kto_weights)
