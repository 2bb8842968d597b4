"""One training step, in one direction: batch → errors → loss."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import repeat
from jaxtyping import Bool, Float, Num
from torch import Generator, Tensor, nn

from seppo_core.methods.errors import Errors, residual, squared_error
from seppo_core.methods.guard import guard_products
from seppo_core.methods.reference import Reference
from seppo_core.models.adapter import Adapter, Condition
from seppo_core.models.noise_path import NoisePath
from seppo_core.models.tuning import forget_casts

TIE_TOLERANCE = 5e-3
"""Relative difference of mean errors at equal weights that rounding explains: a GPU's passes with and without gradient
may differ by 1e-3 in bfloat16."""


class Held(NamedTuple):
    """Errors of a reference on a batch that were measured before (`held_errors`), so that it has no pass to make."""

    item: Float[Tensor, " b"]
    counterpart: Float[Tensor, " b"] | None = None
    anchor: Float[Tensor, "m b"] | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Everything that a step needs, drawn already. Shapes: latents (b, c, [f], h, w), `t` (b,), conditions (b, …) each.

    `t` is shared by an item and its counterpart; their noises are independent as in the paper, or one and the same
    tensor as in Diffusion-DPO's code. A field is None if the method does not use it.
    """

    x0: Tensor
    """Latents of the items: of winners, or of items with a label, good or bad."""
    condition: Condition
    t: Tensor
    noise: Tensor
    noise_path: NoisePath
    """How `x0` and `noise` are mixed at `t`, what the denoiser is to predict, and the weight of the error."""
    counterpart: Tensor | None = None
    """Latents that stand against the winners: samples of the reference, or the losers of pairs."""
    counterpart_noise: Tensor | None = None
    counterpart_condition: Condition | None = None
    """None if it is the winners' own; a loser has its own size and crop."""
    desirable: Bool[Tensor, " b"] | None = None
    """Whether the label is good, for unpaired items."""
    reward: Float[Tensor, " b"] | None = None
    """In [0, 1], for samples that a judge has scored: how each compares with the others of its caption."""
    anchor_t: Num[Tensor, "m b"] | None = None
    """Further timesteps that the anchor alone looks at, m draws for each winner."""
    anchor_noise: Tensor | None = None
    """(m, b, c, [f], h, w), for `anchor_t`."""
    held: Held | None = None
    """The reference's errors, if they are known."""

    @classmethod
    def of(
        cls,
        x0: Float[Tensor, "b c *shape"],
        condition: Condition,
        noise_path: NoisePath,
        *,
        t: Num[Tensor, " b"] | None = None,
        noise: Float[Tensor, "b c *shape"] | None = None,
        counterpart: Float[Tensor, "b c *shape"] | None = None,
        counterpart_noise: Float[Tensor, "b c *shape"] | None = None,
        counterpart_condition: Condition | None = None,
        desirable: Bool[Tensor, " b"] | None = None,
        reward: Float[Tensor, " b"] | None = None,
        anchor_draws: int = 0,
        generator: Generator | None = None,
    ) -> "Batch":
        """A batch of latents and what belongs to them; timesteps and noises that are not given are drawn.

        `generator` is a CPU generator, e.g. `keyed_generator(seed, "draws", update)`; None takes torch's global one.
        For one noise for both halves hand the same tensor as `noise` and `counterpart_noise`. `noise_path` is usually
        `adapter.path`; `with_method` gives it a method's timesteps or weights.
        """

        def timesteps() -> Tensor:
            u = torch.rand(len(x0), generator=generator, dtype=torch.float64)
            return noise_path.timesteps(u).to(x0.device)

        def normal() -> Tensor:
            return torch.randn(x0.shape, generator=generator).to(x0)

        t = timesteps() if t is None else t
        noise = normal() if noise is None else noise
        if counterpart is not None and counterpart_noise is None:
            counterpart_noise = normal()
        draws = [(timesteps(), normal()) for _ in range(anchor_draws)]
        return cls(
            x0=x0,
            condition=condition,
            t=t,
            noise=noise,
            noise_path=noise_path,
            counterpart=counterpart,
            counterpart_noise=counterpart_noise,
            counterpart_condition=counterpart_condition,
            desirable=desirable,
            reward=reward,
            anchor_t=torch.stack([t for t, _ in draws]) if draws else None,
            anchor_noise=torch.stack([noise for _, noise in draws]) if draws else None,
        )


class Pass(NamedTuple):
    """The result of one forward pass over n items."""

    errors: Float[Tensor, " n"]
    residuals: Float[Tensor, " n *shape"] | None
    """prediction − target; None of errors that were kept."""


def denoise(
    adapter: Adapter,
    denoiser: nn.Module,
    noise_path: NoisePath,
    x_0: Float[Tensor, " n c *shape"],
    noise: Float[Tensor, " n c *shape"],
    t: Num[Tensor, " n"],
    condition: Condition,
) -> Pass:
    """‖model(x_t, t, c) − target‖² of each item, averaged over its elements and weighted by the path's w(t)."""
    prediction = adapter.predict(denoiser, noise_path.add_noise(x_0, noise, t), t, condition)
    residuals = residual(prediction, noise_path.target(x_0, noise, t))
    return Pass(noise_path.weight(t) * squared_error(residuals), residuals)


@torch.no_grad()
def observed_guard(
    adapter: Adapter, policy: nn.Module, batch: Batch, push: Callable[[Pass, Pass], Tensor]
) -> dict[str, Tensor]:
    """Means over the batch of the guard's two products, for one λ of the whole batch (`guard_products`)."""
    winner, sample = pair_pass(adapter, policy, batch)
    squared, inner = guard_products(winner.residuals, sample.residuals, push(winner, sample))
    return {"guard_squared": squared.mean(), "guard_inner": inner.mean()}


def item_pass(adapter: Adapter, denoiser: nn.Module, batch: Batch) -> Pass:
    """The denoiser on the items alone, without their counterparts."""
    return denoise(adapter, denoiser, batch.noise_path, batch.x0, batch.noise, batch.t, batch.condition)


def item_errors(adapter: Adapter, denoiser: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
    """The denoiser's errors on the items alone, without their counterparts, (b,)."""
    return item_pass(adapter, denoiser, batch).errors


def both_item_errors(
    adapter: Adapter, policy: nn.Module, reference: Reference, batch: Batch
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Policy's and reference's errors on the items, (b,) each; the reference's pass comes first."""
    held = held_item(adapter, reference, batch).errors
    own = item_errors(adapter, policy, batch)
    return own, tied(reference, held, own)


def pair_pass(adapter: Adapter, denoiser: nn.Module, batch: Batch) -> tuple[Pass, Pass]:
    """The denoiser on winners and counterparts in one concatenated forward pass."""
    x_0 = torch.cat([batch.x0, batch.counterpart])
    noise = torch.cat([batch.noise, batch.counterpart_noise])
    t = repeat(batch.t, "b -> (halves b)", halves=2)
    second = batch.condition if batch.counterpart_condition is None else batch.counterpart_condition
    condition = {key: torch.cat([value, second[key]]) for key, value in batch.condition.items()}
    errors, residuals = denoise(adapter, denoiser, batch.noise_path, x_0, noise, t, condition)
    halves = zip(errors.chunk(2), residuals.chunk(2), strict=True)
    winner, sample = (Pass(*half) for half in halves)
    return winner, sample


def pair_errors(adapter: Adapter, policy: nn.Module, reference: Reference, batch: Batch) -> Errors:
    """Policy's and reference's errors on winners and samples: one concatenated forward pass each, the reference first.

    The reference comes first because a LoRA reference may not be switched in between the policy's forward and backward.
    """
    held = (one.errors for one in held_pair(adapter, reference, batch))
    winner, sample = pair_pass(adapter, policy, batch)
    return pair_of(reference, winner.errors, sample.errors, *held)


def pair_of(reference: Reference, winner: Tensor, sample: Tensor, *held: Tensor) -> Errors:
    """The policy's errors on winners and samples beside those that were measured of the reference (`held`)."""
    return Errors(winner, sample, *(tied(reference, *both) for both in zip(held, (winner, sample), strict=True)))


def tied(reference: Reference, held: Float[Tensor, " b"], own: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """`held`, the errors that were measured of the reference; if it has the policy's weights, the policy's `own`.

    Passes with and without gradient may run other kernels, and the anchor's sign must not hang on their rounding.
    """
    if not reference.equals_policy:
        return held
    own = own.detach()
    # read at once: whoever reads waits for the device
    gap, mean = torch.stack([(own - held).abs().mean(), own.mean()]).tolist()
    if gap > TIE_TOLERANCE * mean:
        warnings.warn(
            f"policy and reference have the same weights but their errors differ by {gap:.3g} on average, with a mean "
            f"of {mean:.3g}: they run in different precision, or something random, dropout say, is on",
            stacklevel=2,
        )
    return own


@torch.no_grad()
def check_parted(adapter: Adapter, policy: nn.Module, reference: Reference, batch: Batch, gap: float) -> None:
    """Warns if the loss saw policy and reference much closer than they are: one then predicts with the other's weights.

    `gap` is the mean |policy − reference| of the errors on the items, as the loss measured it. It is held against that
    of two passes which share nothing, not even autocast's casts of the weights.
    """
    errors = []
    for model in (nullcontext(policy), reference.active()):
        with model as one:
            forget_casts()
            errors.append(item_errors(adapter, one, batch))
        forget_casts()
    own, held = errors
    apart = float((own - held).abs().mean())
    if gap < apart / 2 and apart - gap > TIE_TOLERANCE * float(own.mean()):
        warnings.warn(
            f"policy and reference have different weights, but the loss saw their errors only {gap:.3g} apart on "
            f"average, and passes of their own are {apart:.3g} apart: one predicts with weights of the other, so that "
            "this run is not what its config says",
            stacklevel=2,
        )


def held_item(adapter: Adapter, reference: Reference, batch: Batch) -> Pass:
    """The reference on the items alone, without gradient; what the batch holds of it, if it does."""
    if batch.held is not None:
        return Pass(batch.held.item, None)
    with reference.active() as frozen:
        return item_pass(adapter, frozen, batch)


def held_pair(adapter: Adapter, reference: Reference, batch: Batch) -> tuple[Pass, Pass]:
    """The reference on winners and counterparts, without gradient; what the batch holds of it, if it does."""
    if batch.held is not None:
        return Pass(batch.held.item, None), Pass(batch.held.counterpart, None)
    with reference.active() as frozen:
        return pair_pass(adapter, frozen, batch)


@torch.no_grad()
def held_errors(adapter: Adapter, frozen: nn.Module, batch: Batch) -> Float[Tensor, "b columns"]:
    """All errors of a reference that a loss on `batch` may ask for, by the passes that the loss would make: of the
    items, of their counterparts if there are any, and at the anchor's draws. `held_of` takes them apart again."""
    passes = [item_pass(adapter, frozen, batch)] if batch.counterpart is None else pair_pass(adapter, frozen, batch)
    return torch.stack([*(one.errors for one in passes), *_anchor_errors(adapter, frozen, batch)], dim=1)


def held_of(columns: Float[Tensor, "b columns"], contrastive: bool) -> Held:
    """The errors that `held_errors` measured, of pairs if `contrastive`."""
    item, *others = columns.unbind(1)
    counterpart = others.pop(0) if contrastive else None
    return Held(item, counterpart, torch.stack(others) if others else None)


def _anchor_errors(adapter: Adapter, denoiser: nn.Module, batch: Batch) -> list[Float[Tensor, " b"]]:
    """The errors on the items at each of the anchor's draws."""
    if batch.anchor_t is None:
        return []
    draws = zip(batch.anchor_t, batch.anchor_noise, strict=True)
    return [
        denoise(adapter, denoiser, batch.noise_path, batch.x0, noise, t, batch.condition).errors for t, noise in draws
    ]


@torch.no_grad()
def anchor_gap(adapter: Adapter, policy: nn.Module, reference: Reference, batch: Batch) -> Float[Tensor, " b"]:
    """Policy's minus reference's error on each winner, (b,), averaged over the batch's anchor draws.

    The same timesteps and noises for both. Below zero the policy is the better one.
    """
    if reference.equals_policy:
        return torch.zeros_like(batch.anchor_t[0], dtype=torch.float32)
    if batch.held is not None:
        held = batch.held.anchor
    else:
        # all of the reference's in one go: it may have to be brought to the device, or switched to
        with reference.active() as frozen:
            held = _anchor_errors(adapter, frozen, batch)
    gaps = [own - one for own, one in zip(_anchor_errors(adapter, policy, batch), held, strict=True)]
    # before torch 2.11 autocast would hand the casts made here, which have no graph, to the pass with gradient
    forget_casts()
    return torch.stack(gaps).mean(0)


def drift(reference: Reference, held: Pass, own: Pass, batch: Batch) -> Float[Tensor, " b"]:
    """‖policy − reference‖² of each winner, (b,): averaged over its elements and weighted as the errors are.

    Zero, without gradient, while the reference has the policy's weights.
    """
    if reference.equals_policy:
        return torch.zeros_like(held.errors)
    return batch.noise_path.weight(batch.t) * squared_error(own.residuals - held.residuals)


@torch.no_grad()
def observed_drift(reference: Reference, held: Pass, own: Pass, batch: Batch) -> dict[str, Float[Tensor, ""]]:
    """The mean of `drift` over the batch, to watch; nothing if the reference's prediction was not kept."""
    return {} if held.residuals is None else {"drift": drift(reference, held, own, batch).mean()}
