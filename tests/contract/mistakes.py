"""Mistakes that an adapter could make, to be told from what is right by the contract."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.schedulers import SchedulerMixin
from torch import Tensor, nn

from seppo_core.models.adapter import Adapter

Mistake = Callable[[dict], dict]
"""Named arguments of the denoiser → those that a wrong adapter would pass."""
AdapterMistake = Callable[[Adapter], None]
"""Makes an adapter wrong."""


@dataclass(frozen=True)
class Mistaken:
    """Stands for the denoiser in the adapter's hands and passes on what a `mistake` makes of a call."""

    denoiser: nn.Module
    mistake: Mistake

    def parameters(self):
        return self.denoiser.parameters()

    def __call__(self, *positional, **named):
        # the UNets are given x_t and t by position
        names = ("sample", "timestep")[: len(positional)]
        return self.denoiser(**self.mistake(dict(zip(names, positional, strict=True)) | named))


def change(name: str, wrong: Callable[[Tensor], Tensor]) -> Mistake:
    def mistake(call: dict) -> dict:
        return call | {name: wrong(call[name])}

    return mistake


def added(name: str, wrong: Callable[[Tensor], Tensor]) -> Mistake:
    return change("added_cond_kwargs", change(name, wrong))


def swap_halves(value: Tensor) -> Tensor:
    return value.roll(value.shape[-1] // 2, dims=-1)


THOUSANDTHS = change("timestep", lambda t: t / 1000)
TEXT_DROPPED = change("encoder_hidden_states", torch.zeros_like)
POOLED_DROPPED = change("pooled_projections", torch.zeros_like)
MASK_DROPPED = change("encoder_attention_mask", torch.ones_like)
SDXL_MISTAKES = {
    "timestep in thousandths": THOUSANDTHS,
    "crop before size": added("time_ids", lambda ids: ids.roll(2, dims=-1)),
    "width before height": added("time_ids", lambda ids: ids[:, [1, 0, 3, 2, 5, 4]]),
    "size in latents": added("time_ids", lambda ids: ids // 8),
    "pooled text dropped": added("text_embeds", torch.zeros_like),
    "text encoders swapped": change("encoder_hidden_states", swap_halves),
}
"""Of a UNet that is told sizes beside its text."""


def no_shift(adapter: Adapter) -> None:
    """A time grid that is not shifted by the number of tokens."""

    def grid(scheduler: SchedulerMixin, steps: int, latent_shape: tuple[int, ...], device) -> Tensor:
        scheduler.set_timesteps(steps, device=device, mu=0.0)
        return scheduler.timesteps

    adapter.timesteps = grid


def shift_of_a_square(adapter: Adapter) -> None:
    """The grid of another number of tokens than the latents have."""
    right = adapter.timesteps
    adapter.timesteps = lambda scheduler, steps, shape, device: right(scheduler, steps, (*shape[:-2], 64, 64), device)


def guided_as_in_training(adapter: Adapter) -> None:
    """The sampler's guidance scale does not arrive."""
    right = adapter.with_guidance
    adapter.with_guidance = lambda condition, guidance_scale: right(condition, adapter.training_guidance)


def wrong_sign(adapter: Adapter) -> None:
    right = adapter.predict
    adapter.predict = lambda *call: -right(*call)
