"""Sampling: drives any diffusers scheduler over an adapter, latents in, latents out."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from hashlib import blake2b
from inspect import signature
from typing import Any

import diffusers
import torch
from diffusers.configuration_utils import FrozenDict
from diffusers.schedulers import SchedulerMixin
from jaxtyping import Float
from torch import Generator, Tensor, nn

from seppo_core.config.method import guides
from seppo_core.io import purposes
from seppo_core.io.rng import keyed_generator
from seppo_core.models.adapter import Adapter, Condition

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""Names of solvers and the diffusers classes behind them."""


def sample(
    adapter: Adapter,
    denoiser: nn.Module,
    condition: Condition,
    *,
    noise: Float[Tensor, "b c *shape"],
    steps: int,
    guidance_scale: float,
    unconditional: Condition | None = None,
    scheduler: SchedulerMixin | None = None,
    generators: list[Generator] | None = None,
    guidance_interval: tuple[float, float] | None = None,
) -> Float[Tensor, "b c *shape"]:
    """Latents of `denoiser` for `condition`, from unit normal `noise`; in the noise's dtype and on its device.

    If `guidance_scale` > 1, guidance is classifier-free, in one concatenated forward pass, for families that have it;
    `unconditional` is then the condition of "" (batch 1 or b), and names that it lacks keep the item's own value (a
    size, say). A denoiser with embedded guidance is told the scale. `guidance_interval` limits guidance to the steps
    from one share of all to another (Kynkäänniemi et al., arXiv 2404.07724, 2024); the others are one plain pass of the
    condition. `scheduler` defaults to the adapter's and is left
    untouched. Solvers that add noise draw each item's from its own generator of `generators`, or, without any, from one
    keyed by the item's initial noise: an item's result does not depend on the batch that it is in.

    Raises ValueError if the inputs do not fit together and FloatingPointError if latents are not finite.
    """
    for latents in sample_steps(  # noqa: B007
        adapter, denoiser, condition, noise=noise, steps=steps, guidance_scale=guidance_scale,
        unconditional=unconditional, scheduler=scheduler, generators=generators, guidance_interval=guidance_interval,
    ):  # fmt: skip
        pass
    return latents


def sample_steps(
    adapter: Adapter,
    denoiser: nn.Module,
    condition: Condition,
    *,
    noise: Float[Tensor, "b c *shape"],
    steps: int,
    guidance_scale: float,
    unconditional: Condition | None = None,
    scheduler: SchedulerMixin | None = None,
    generators: list[Generator] | None = None,
    guidance_interval: tuple[float, float] | None = None,
) -> Iterator[Float[Tensor, "b c *shape"]]:
    """The latents after each step of the solver, its warm-up included; the last are those that `sample` returns.

    The caller may look at other things between two steps, or end sampling there.
    """
    batch = len(noise)
    noise = noise.detach()
    for name, value in condition.items():
        if len(value) != batch:
            raise ValueError(f"condition {name!r} is for {len(value)} items, the noise for {batch}")
    condition = adapter.with_guidance(condition, guidance_scale)
    guided = guidance_scale > 1 and adapter.guidance == "cfg"
    if guidance_interval is not None and not guided:
        raise ValueError(
            f"guidance_interval={list(guidance_interval)} limits classifier-free guidance, and there is none: "
            f"guidance_scale={guidance_scale}, guidance {adapter.guidance}; leave it out"
        )
    both = _with_unconditional(condition, unconditional, batch) if guided else condition

    scheduler = deepcopy(adapter.scheduler if scheduler is None else scheduler)
    timesteps = adapter.timesteps(scheduler, steps, tuple(noise.shape[1:]), noise.device)
    step_options = {}
    if "generator" in signature(scheduler.step).parameters:
        step_options["generator"] = _generators(generators, noise)

    # flow-matching schedulers start from unit noise and have neither of the two
    latents = noise * scheduler.init_noise_sigma if hasattr(scheduler, "init_noise_sigma") else noise
    scales_input = hasattr(scheduler, "scale_model_input")
    for number, t in enumerate(timesteps, start=1):
        # not around the yield: what the caller does there is the caller's
        with torch.no_grad():
            doubled = guided and guides(guidance_interval, number, len(timesteps))
            x_t = torch.cat([latents, latents]) if doubled else latents
            if scales_input:
                x_t = scheduler.scale_model_input(x_t, t)
            # some solvers return latents in the prediction's dtype, which would round them at every step
            given = both if doubled else condition
            prediction = adapter.predict(denoiser, x_t, t.expand(len(x_t)), given).to(latents.dtype)
            if doubled:
                without, given = prediction.chunk(2)
                prediction = adapter.guide(without, given, guidance_scale)
            latents = scheduler.step(prediction, t, latents, **step_options, return_dict=False)[0]
        if number == len(timesteps):
            _check_finite(latents, steps, guidance_scale)
        yield latents


def adds_noise(scheduler: SchedulerMixin) -> bool:
    """Whether a solver draws noise between its steps, so that the noise it begins with does not give the sample."""
    return draws_noise(type(scheduler).__name__, scheduler.config)


def draws_noise(kind: str, config: Mapping[str, Any]) -> bool:
    """The same by the name of the solver's class and its config."""
    named = any(part in kind for part in ("Ancestral", "DDPM", "LCM", "TCD", "SDE"))
    return named or "sde" in str(config.get("algorithm_type", "")) or bool(config.get("stochastic_sampling"))


def make_scheduler(name: str | None, base: SchedulerMixin) -> SchedulerMixin:
    """The solver called `name` on the betas, prediction and time grid of `base`; None or "default" is `base` itself.

    Raises ValueError for an unknown name, and if the solver cannot follow the base: a flow, or zero terminal SNR.
    """
    if name is None or name == "default":
        return base
    if name not in SCHEDULERS:
        raise ValueError(f"scheduler={name!r} is not known; use default, {', '.join(SCHEDULERS)}")
    if "beta_schedule" not in base.config or base.config.get("use_flow_sigmas"):
        raise ValueError(f"scheduler={name!r} solves diffusions; this model is a flow and samples with its default")
    solver = getattr(diffusers, SCHEDULERS[name])
    zero_snr = "rescale_betas_zero_snr"
    if base.config.get(zero_snr) and zero_snr not in signature(solver).parameters:
        raise ValueError(f"scheduler={name!r} has no form for zero terminal SNR; use ddim, euler or dpm++")
    known = signature(solver).parameters
    config = {name: value for name, value in effective_config(base).items() if name in known}
    if "clip_sample" in known:
        # DDIM and DDPM would clip to [-1, 1] unless told otherwise, and a base on another solver does not say
        config.setdefault("clip_sample", False)
    made = solver.from_config(config)
    alphas = base.alphas_cumprod.double()
    if not torch.allclose(made.alphas_cumprod.double(), alphas, rtol=1e-3, atol=1e-6):
        # the base makes more of its betas than other solvers know how to, a shift of the signal-to-noise ratio say
        betas = 1 - alphas / torch.cat([alphas.new_ones(1), alphas[:-1]])
        made = solver.from_config(config | {"trained_betas": betas.tolist()})
    return made


def effective_config(scheduler: SchedulerMixin) -> dict:
    """The configuration that `scheduler` follows, to build another class of scheduler from.

    diffusers remembers which values were defaults and would take the other class's defaults for them, until the
    pipeline is saved and every value counts as chosen: the same solver would step differently before and after.
    """
    return {name: value for name, value in scheduler.config.items() if name != "_use_default_values"}


def dynamic_shift(config: FrozenDict, tokens: int, max_shift: float = 1.15) -> float:
    """The μ that a scheduler's `set_timesteps` takes: linear in `tokens`, the length of the denoiser's sequence.

    μ goes from `base_shift` at `base_image_seq_len` to `max_shift` at `max_image_seq_len`, as the scheduler's `config`
    says or, where it is silent, from 0.5 at 256 to the pipeline's own `max_shift` at 4096; σ is then shifted by a
    factor of e^μ (SD3, arXiv 2403.03206, 2024, section 5.3.2).
    """
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    start, end = config.get("base_shift", 0.5), config.get("max_shift", max_shift)
    return start + (end - start) * (tokens - low) / (high - low)


def _with_unconditional(condition: Condition, unconditional: Condition | None, batch: int) -> Condition:
    """Both halves of a guided forward, the unconditional first, as diffusers has it."""
    if unconditional is None:
        raise ValueError('guidance_scale > 1 needs `unconditional`, the condition of ""; or set guidance_scale=1')
    if unknown := unconditional.keys() - condition.keys():
        raise ValueError(f"unconditional names {sorted(unknown)}, which the condition {sorted(condition)} lacks")
    for name, value in unconditional.items():
        if len(value) not in (1, batch):
            raise ValueError(f"unconditional {name!r} is for {len(value)} items; give 1 or {batch}")
    return {
        name: torch.cat([unconditional.get(name, value).expand_as(value).to(value), value])
        for name, value in condition.items()
    }


def _generators(generators: list[Generator] | None, noise: Tensor) -> list[Generator]:
    if generators is None:
        # numpy has no bfloat16; float32 holds every half-precision value exactly
        items = noise.float().cpu().numpy()
        return [keyed_generator(purposes.SAMPLE, blake2b(item.tobytes(), digest_size=16).hexdigest()) for item in items]
    if len(generators) != len(noise):
        raise ValueError(f"{len(generators)} generators for {len(noise)} items; give one for each")
    return generators


def _check_finite(latents: Tensor, steps: int, guidance_scale: float) -> None:
    bad = (~latents.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
    if bad:
        raise FloatingPointError(
            f"sampled latents are not finite for items {bad} of a batch of {len(latents)} (dtype {latents.dtype}, "
            f"{steps} steps, guidance_scale {guidance_scale}): the denoiser diverged, or float16 overflowed; "
            "try bfloat16 or float32, or an earlier checkpoint"
        )
