"""One training step, in one direction: batch → errors → loss."""

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.adapter import Adapter, Condition
from seppo_core.losses import Errors, squared_error
from seppo_core.reference import Reference


@dataclass(frozen=True)
class Batch:
    """Everything a step needs, drawn already. Shapes: latents (b, c, [f], h, w), `t` (b,), condition (b, …) each.

    `t` is shared by a winner and its sample; their noises are independent as in the paper, or one and the same tensor
    as in Diffusion-DPO's code. `sample` and its noise are None for methods that learn from winners alone.
    """

    winner: Tensor
    condition: Condition
    t: Tensor
    winner_noise: Tensor
    sample: Tensor | None = None
    sample_noise: Tensor | None = None


def denoising_errors(
    adapter: Adapter,
    denoiser: nn.Module,
    x_0: Float[Tensor, " n c *shape"],
    noise: Float[Tensor, " n c *shape"],
    t: Num[Tensor, " n"],
    condition: Condition,
) -> Float[Tensor, " n"]:
    """‖model(x_t, t, c) − target‖² of each sample, averaged over its elements and weighted by the path's w(t); (n,)."""
    prediction = adapter.predict(denoiser, adapter.path.add_noise(x_0, noise, t), t, condition)
    return adapter.path.weight(t) * squared_error(prediction, adapter.path.target(x_0, noise, t))


def winner_errors(adapter: Adapter, denoiser: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
    """The denoiser's errors on the winners alone, (b,)."""
    return denoising_errors(adapter, denoiser, batch.winner, batch.winner_noise, batch.t, batch.condition)


def pair_errors(adapter: Adapter, policy: nn.Module, reference: Reference, batch: Batch) -> Errors:
    """Policy's and reference's errors on winners and samples: one concatenated forward pass each, the reference first.

    Both passes have the same batch, so that equal weights run the same kernels and tie exactly. The reference comes
    first because a LoRA reference may not be switched in between the policy's forward and backward.
    """
    x_0 = torch.cat([batch.winner, batch.sample])
    noise = torch.cat([batch.winner_noise, batch.sample_noise])
    t = repeat(batch.t, "b -> (halves b)", halves=2)
    condition = {key: torch.cat([value, value]) for key, value in batch.condition.items()}
    with reference.active() as frozen:
        reference_winner, reference_sample = denoising_errors(adapter, frozen, x_0, noise, t, condition).chunk(2)
    policy_winner, policy_sample = denoising_errors(adapter, policy, x_0, noise, t, condition).chunk(2)
    return Errors(policy_winner, policy_sample, reference_winner, reference_sample)
