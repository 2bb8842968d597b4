"""One training step, in one direction: batch → errors → loss."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import repeat
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from seppo_core.methods.losses import Errors, residual
from seppo_core.methods.reference import Reference
from seppo_core.models.adapter import Adapter, Condition


@dataclass(frozen=True)
class Batch:
    """Everything a step needs, drawn already. Shapes: latents (b, c, [f], h, w), `t` (b,), condition (b, …) each.

    `t` is shared by a winner and its second sample; their noises are independent as in the paper, or one and the same
    tensor as in Diffusion-DPO's code. What a method has no use for is None.
    """

    winner: Tensor
    condition: Condition
    t: Tensor
    winner_noise: Tensor
    sample: Tensor | None = None
    """What stands against the winner: the reference's own sample, or the loser of a pair."""
    sample_noise: Tensor | None = None
    sample_condition: Condition | None = None
    """Where it differs from the winner's: a loser has its own size and crop."""
    desirable: Bool[Tensor, " b"] | None = None
    """Of unpaired items: whether the label is good. They stand in `winner`, good or bad."""
    anchor_t: Num[Tensor, "m b"] | None = None
    """Further timesteps that the anchor alone looks at, m draws for each winner."""
    anchor_noise: Tensor | None = None
    """(m, b, c, [f], h, w), for `anchor_t`."""


class Pass(NamedTuple):
    """What one forward pass over n items gives."""

    errors: Float[Tensor, " n"]
    residuals: Float[Tensor, " n *shape"]
    """prediction − target."""


def denoise(
    adapter: Adapter,
    denoiser: nn.Module,
    x_0: Float[Tensor, " n c *shape"],
    noise: Float[Tensor, " n c *shape"],
    t: Num[Tensor, " n"],
    condition: Condition,
) -> Pass:
    """‖model(x_t, t, c) − target‖² of each item, averaged over its elements and weighted by the path's w(t)."""
    prediction = adapter.predict(denoiser, adapter.path.add_noise(x_0, noise, t), t, condition)
    residuals = residual(prediction, adapter.path.target(x_0, noise, t))
    return Pass(adapter.path.weight(t) * residuals.square().flatten(1).mean(1), residuals)


def winner_errors(adapter: Adapter, denoiser: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
    """The denoiser's errors on the winners alone, (b,)."""
    return denoise(adapter, denoiser, batch.winner, batch.winner_noise, batch.t, batch.condition).errors


def pair_pass(adapter: Adapter, denoiser: nn.Module, batch: Batch) -> tuple[Pass, Pass]:
    """The denoiser on winners and second samples in one concatenated forward pass."""
    x_0 = torch.cat([batch.winner, batch.sample])
    noise = torch.cat([batch.winner_noise, batch.sample_noise])
    t = repeat(batch.t, "b -> (halves b)", halves=2)
    second = batch.condition if batch.sample_condition is None else batch.sample_condition
    condition = {key: torch.cat([value, second[key]]) for key, value in batch.condition.items()}
    errors, residuals = denoise(adapter, denoiser, x_0, noise, t, condition)
    halves = zip(errors.chunk(2), residuals.chunk(2), strict=True)
    winner, sample = (Pass(*half) for half in halves)
    return winner, sample


def pair_errors(adapter: Adapter, policy: nn.Module, reference: Reference, batch: Batch) -> Errors:
    """Policy's and reference's errors on winners and samples: one concatenated forward pass each, the reference first.

    Both passes have the same batch, so that equal weights run the same kernels and tie exactly. The reference comes
    first because a LoRA reference may not be switched in between the policy's forward and backward.
    """
    reference_winner, reference_sample = reference_pair(adapter, reference, batch)
    winner, sample = pair_pass(adapter, policy, batch)
    return Errors(winner.errors, sample.errors, reference_winner, reference_sample)


def reference_pair(adapter: Adapter, reference: Reference, batch: Batch) -> tuple[Tensor, Tensor]:
    """The reference's errors on winners and samples, (b,) each, without gradient."""
    with reference.active() as frozen:
        winner, sample = pair_pass(adapter, frozen, batch)
    return winner.errors, sample.errors


@torch.no_grad()
def anchor_gap(adapter: Adapter, policy: nn.Module, reference: Reference, batch: Batch) -> Float[Tensor, " b"]:
    """Policy's minus reference's error on each winner, (b,), averaged over the batch's anchor draws.

    The same timesteps and noises for both. Below zero the policy is the better one.
    """
    draws = [
        (batch.winner, noise, t, batch.condition) for t, noise in zip(batch.anchor_t, batch.anchor_noise, strict=True)
    ]
    # all of the reference's in one go: it may have to be brought to the device, or switched to
    with reference.active() as frozen:
        held = [denoise(adapter, frozen, *draw).errors for draw in draws]
    gaps = [denoise(adapter, policy, *draw).errors - one for draw, one in zip(draws, held, strict=True)]
    # before torch 2.11 autocast would hand the casts made here, which have no graph, to the pass with gradient
    torch.clear_autocast_cache()
    return torch.stack(gaps).mean(0)
