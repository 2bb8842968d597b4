"""The contract can fail: mistakes that an adapter's `predict` could make, one by one, against the pipeline's latents.

A mistake is made in the call that reaches the denoiser, so that the adapter's own code is what is tested.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from diffusers.schedulers import SchedulerMixin
from einops import rearrange
from torch import Tensor, nn

from seppo_core.models.adapter import Adapter
from seppo_core.models.sampling import sample
from tests.contract.families import FAMILIES
from tests.tiny_image import T5_TOKENS

BY_NAME = {family.name: family for family in FAMILIES}
PROMPTS = ["a red house", "two cats under a tree, far too long for so few tokens"]

Mistake = Callable[[dict], dict]
"""Named arguments of the denoiser → those that a wrong adapter would pass."""


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


def patches_first(tokens: Tensor) -> Tensor:
    return rearrange(tokens, "b n (c p) -> b n (p c)", p=4)


def frames_for_rows(latents: Tensor) -> Tensor:
    """The right shape, filled in another order."""
    return rearrange(latents, "b c f h w -> b c h f w").reshape(latents.shape)


def columns_first(tokens: Tensor) -> Tensor:
    return rearrange(tokens, "b (f h w) c -> b (f w h) c", f=2, h=2)


def frames_apart(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Positions of one frame for all."""
    return tuple(rearrange(x[: len(x) // 2].expand(2, -1, -1), "f n d -> (f n) d") for x in pair)


thousandth = partial(change, "timestep", lambda t: t / 1000)
dropped = torch.zeros_like

MISTAKES = {
    "stable-diffusion timestep in thousandths": ("stable-diffusion", thousandth()),
    "stable-diffusion text dropped": ("stable-diffusion", change("encoder_hidden_states", dropped)),
    "animatediff text of the wrong frames": (
        "animatediff",
        change("encoder_hidden_states", lambda text: rearrange(text, "(b f) n d -> (f b) n d", f=4)),
    ),
    "animatediff-sdxl timestep in thousandths": ("animatediff-sdxl", thousandth()),
    "animatediff-sdxl text of the wrong frames": (
        "animatediff-sdxl",
        change("encoder_hidden_states", lambda text: rearrange(text, "(b f) n d -> (f b) n d", f=4)),
    ),
    "animatediff-sdxl crop before size": ("animatediff-sdxl", added("time_ids", lambda ids: ids.roll(2, dims=-1))),
    "animatediff-sdxl width before height": (
        "animatediff-sdxl",
        added("time_ids", lambda ids: ids[:, [1, 0, 3, 2, 5, 4]]),
    ),
    "animatediff-sdxl size in latents": ("animatediff-sdxl", added("time_ids", lambda ids: ids // 8)),
    "animatediff-sdxl pooled text dropped": ("animatediff-sdxl", added("text_embeds", dropped)),
    "animatediff-sdxl text encoders swapped": ("animatediff-sdxl", change("encoder_hidden_states", swap_halves)),
    "animatediff-sdxl frames backwards": ("animatediff-sdxl", change("sample", lambda x: x.flip(2))),
    "sdxl timestep in thousandths": ("sdxl", thousandth()),
    "sdxl crop before size": ("sdxl", added("time_ids", lambda ids: ids.roll(2, dims=-1))),
    "sdxl width before height": ("sdxl", added("time_ids", lambda ids: ids[:, [1, 0, 3, 2, 5, 4]])),
    "sdxl size in latents": ("sdxl", added("time_ids", lambda ids: ids // 8)),
    "sdxl pooled text dropped": ("sdxl", added("text_embeds", dropped)),
    "sdxl text encoders swapped": ("sdxl", change("encoder_hidden_states", swap_halves)),
    "sd3 timestep in thousandths": ("sd3", thousandth()),
    "sd3 pooled text dropped": ("sd3", change("pooled_projections", dropped)),
    "sd3 text encoders swapped": ("sd3", change("pooled_projections", swap_halves)),
    "sd3 T5 dropped": ("sd3", change("encoder_hidden_states", lambda text: text[:, :-T5_TOKENS])),
    "flux timestep not in thousandths": ("flux-dev", change("timestep", lambda t: t * 1000)),
    "flux patches before channels": ("flux-dev", change("hidden_states", patches_first)),
    "flux rows and columns swapped": ("flux-dev", change("img_ids", lambda ids: ids[:, [0, 2, 1]])),
    "flux text where the first patch is": ("flux-dev", change("txt_ids", lambda ids: ids + 1)),
    "flux guidance off": ("flux-dev", change("guidance", torch.ones_like)),
    "flux guidance in thousandths": ("flux-dev", change("guidance", lambda guidance: guidance / 1000)),
    "flux pooled text dropped": ("flux-schnell", change("pooled_projections", dropped)),
    "sana timestep in thousandths": ("sana", thousandth()),
    "sana mask dropped": ("sana", change("encoder_attention_mask", torch.ones_like)),
    "sana text dropped": ("sana", change("encoder_hidden_states", dropped)),
    "pixart-sigma timestep in thousandths": ("pixart-sigma", thousandth()),
    "pixart-sigma mask dropped": ("pixart-sigma", change("encoder_attention_mask", torch.ones_like)),
    "pixart-sigma text dropped": ("pixart-sigma", change("encoder_hidden_states", dropped)),
    "flux-schnell timestep not in thousandths": ("flux-schnell", change("timestep", lambda t: t * 1000)),
    "wan timestep in thousandths": ("wan", thousandth()),
    "wan text dropped": ("wan", change("encoder_hidden_states", dropped)),
    "wan rows and frames swapped": ("wan", change("hidden_states", frames_for_rows)),
    "ltx timestep in thousandths": ("ltx", thousandth()),
    "ltx text dropped": ("ltx", change("encoder_hidden_states", dropped)),
    "ltx mask dropped": ("ltx", change("encoder_attention_mask", torch.ones_like)),
    "ltx columns before rows": ("ltx", change("hidden_states", columns_first)),
    "ltx rotary of columns before rows": ("ltx", lambda call: call | {"height": 3, "width": 2}),
    "ltx rotary in latents": ("ltx", lambda call: call | {"rope_interpolation_scale": None}),
    "ltx rotary of another frame rate": ("ltx", change("rope_interpolation_scale", lambda x: (x[0] / 2, *x[1:]))),
    "cogvideox-2b timestep in thousandths": ("cogvideox-2b", thousandth()),
    "cogvideox-2b text dropped": ("cogvideox-2b", change("encoder_hidden_states", dropped)),
    "cogvideox-5b rotary missing": ("cogvideox-5b", lambda call: call | {"image_rotary_emb": None}),
    "cogvideox-5b sine for cosine": ("cogvideox-5b", change("image_rotary_emb", lambda pair: pair[::-1])),
    "cogvideox-5b frames backwards": ("cogvideox-5b", change("hidden_states", lambda x: x.flip(1))),
    "cogvideox-1.5 channels for frames": ("cogvideox-1.5", change("hidden_states", lambda x: x.transpose(1, 2))),
    "hunyuan timestep in thousandths": ("hunyuan", thousandth()),
    "hunyuan mask dropped": ("hunyuan", change("encoder_attention_mask", torch.ones_like)),
    "hunyuan text dropped": ("hunyuan", change("encoder_hidden_states", dropped)),
    "hunyuan pooled text dropped": ("hunyuan", change("pooled_projections", dropped)),
    "hunyuan guidance in thousandths": ("hunyuan", change("guidance", lambda guidance: guidance / 1000)),
    "cogvideox-1.5 rotary missing": ("cogvideox-1.5", lambda call: call | {"image_rotary_emb": None}),
    "cogvideox-1.5 rotary of one frame for all": ("cogvideox-1.5", change("image_rotary_emb", frames_apart)),
}  # fmt: skip


def off_parity(name: str, tmp_path, change_adapter: Callable[[Adapter], None]) -> float:
    """The largest difference between the pipeline's latents and those of a changed adapter."""
    family = BY_NAME[name]
    noise = torch.randn(2, *family.latent_shape, generator=torch.Generator().manual_seed(0))
    plain = family.pipeline(tmp_path / "plain words")
    expected = family.pipeline_latents(plain, PROMPTS, noise, steps=3, guidance_scale=3.0)
    adapter = family.adapter(tmp_path / "words")
    change_adapter(adapter)
    found = sample(
        adapter,
        adapter.denoiser,
        adapter.encode_prompts(PROMPTS),
        noise=noise,
        steps=3,
        guidance_scale=3.0,
        unconditional=adapter.encode_prompts([""]),
    )
    return (found - expected).abs().max().item()


@pytest.mark.parametrize(("name", "mistake"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_predict_breaks_parity(name, mistake, tmp_path):
    def make_it(adapter: Adapter) -> None:
        right = adapter.predict
        adapter.predict = lambda denoiser, *rest: right(Mistaken(denoiser, mistake), *rest)

    assert off_parity(name, tmp_path, make_it) > 1e-3


@pytest.mark.parametrize("name", sorted({name for name, _ in MISTAKES.values()}))
def test_no_mistake_keeps_parity(name, tmp_path):
    """The stand-in itself changes nothing."""

    def make_none(adapter: Adapter) -> None:
        right = adapter.predict
        adapter.predict = lambda denoiser, *rest: right(Mistaken(denoiser, lambda call: call), *rest)

    assert off_parity(name, tmp_path, make_none) < 1e-4


def grid_without_shift(scheduler: SchedulerMixin, steps: int, latent_shape: tuple[int, ...], device) -> Tensor:
    scheduler.set_timesteps(steps, device=device, mu=0.0)
    return scheduler.timesteps


def ungridded(adapter: Adapter) -> None:
    adapter.timesteps = grid_without_shift


def of_a_square(adapter: Adapter) -> None:
    """The grid of another number of tokens than the latents have."""
    right = adapter.timesteps
    adapter.timesteps = lambda scheduler, steps, shape, device: right(scheduler, steps, (*shape[:-2], 64, 64), device)


@pytest.mark.parametrize("mistake", [ungridded, of_a_square])
@pytest.mark.parametrize("name", ["sd3-dynamic-no-t5", "flux-dev", "ltx"])
def test_a_mistake_in_timesteps_breaks_parity(name, mistake, tmp_path):
    assert off_parity(name, tmp_path, mistake) > 1e-3


def always_as_in_training(adapter: Adapter) -> None:
    right = adapter.with_guidance
    adapter.with_guidance = lambda condition, guidance_scale: right(condition, adapter.training_guidance)


def wrong_sign(adapter: Adapter) -> None:
    right = adapter.predict
    adapter.predict = lambda *call: -right(*call)


@pytest.mark.parametrize("name", ["flux-dev", "hunyuan"])
def test_guidance_that_does_not_arrive_breaks_parity(name, tmp_path):
    assert off_parity(name, tmp_path, always_as_in_training) > 1e-3


def variance_first(adapter: Adapter) -> None:
    """What a denoiser with a learnt variance would answer if it came before ε."""
    adapter.denoiser.register_forward_hook(lambda module, given, answer: (answer[0].roll(4, dims=1),))


@pytest.mark.parametrize("name", ["pixart-sigma"])
def test_the_variance_for_epsilon_breaks_parity(name, tmp_path):
    assert off_parity(name, tmp_path, variance_first) > 1e-3


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_a_wrong_sign_breaks_parity(name, tmp_path):
    assert off_parity(name, tmp_path, wrong_sign) > 1e-3
