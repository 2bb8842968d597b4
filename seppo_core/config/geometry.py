"""Sizes, lengths and channels that a base takes, told from the configs of its models alone. Imports no torch."""

from collections.abc import Mapping
from math import isqrt, prod
from typing import Any

Numbers = Mapping[str, Any]
"""The config of one model, as its config.json holds it."""


def size_problem(height: int, width: int, factor: int) -> str | None:
    """What is wrong unless both are positive multiples of `factor` pixels, with the nearest size that fits."""
    fitting = [max(factor, (size + factor // 2) // factor * factor) for size in (height, width)]
    if [height, width] == fitting:
        return None
    return (
        f"height × width = {height} × {width} does not fit a VAE that packs {factor} × {factor} pixels per latent; "
        f"use e.g. {fitting[0]} × {fitting[1]}"
    )


def frames_problem(frames: int, step: int) -> str | None:
    """What is wrong unless `frames` are one and a multiple of `step`, with the nearest count that fits."""
    fitting = max(0, (frames - 1 + step // 2) // step) * step + 1
    if frames == fitting:
        return None
    return (
        f"{frames} frames do not fit a VAE that takes one frame and then {step} at a time; "
        f"use {step}k + 1, e.g. {fitting}"
    )


def positions_problem(frames: int, limit: int) -> str | None:
    """What is wrong with clips that are longer than motion modules know."""
    if 1 <= frames <= limit:
        return None
    return f"{frames} frames do not fit motion modules that know {limit} positions; use 1 to {limit}"


def channels_problem(taken: int, given: int, channels: int) -> str:
    """That a denoiser takes and gives other channels than latents have."""
    return (
        f"the denoiser takes {taken} and gives {given} channels, the VAE's latents have {channels}; inpainting, "
        "image-to-video, control and editing models are not supported, use a text-to-image or text-to-video base"
    )


DISTILLED = "the denoiser is distilled with embedded guidance (LCM); use the base it was distilled from"


def misfits(parts: Mapping[str, Numbers], height: int, width: int, frames: int) -> list[str]:
    """What does not fit among a pipeline's models, and between them and items of this size.

    Says nothing of what these configs leave open, which is checked when the models are loaded.
    """
    vae, denoiser = parts.get("vae") or {}, parts.get("unet") or parts.get("transformer") or {}
    latents, taken = vae.get("z_dim", vae.get("latent_channels")), denoiser.get("in_channels")
    found, side = [], _side(denoiser.get("patch_size"))
    if isinstance(latents, int) and isinstance(taken, int) and latents > 0:
        # a token of 2 × 2 latents has four times their channels
        if taken not in (latents, 4 * latents):
            found.append(channels_problem(taken, denoiser.get("out_channels") or taken, latents))
        side = max(side, isqrt(taken // latents))
    if denoiser.get("time_cond_proj_dim") is not None:
        found.append(DISTILLED)
    if space := _space(vae):
        found.append(size_problem(height, width, space * side))
    limits = (parts.get("motion_adapter") or denoiser).get("motion_max_seq_length")
    if isinstance(limits, int):
        found.append(positions_problem(frames, limits))
    elif frames > 1 and (time := _time(vae)):
        found.append(frames_problem(frames, time))
    return [problem for problem in found if problem is not None]


def context_problem(
    context: str | None, degree: int, parts: Mapping[str, Numbers], latents: tuple[int, ...], text: int
) -> str | None:
    """Why an item with `latents` (c, [f], h, w) and a caption of `text` tokens cannot be split over `degree` processes;
    None if it can. `context` is that of the `FamilySpec`."""
    sides = token_sides(parts, latents)
    tokens, heads = prod(sides), parts["transformer"]["num_attention_heads"]
    counted = {f"{heads} heads of attention": heads, f"{tokens} tokens ({' x '.join(map(str, sides))})": tokens}
    if context == "latents and text":
        counted[f"{text} tokens of a caption (model.text_tokens)"] = text
    uneven = [name for name, count in counted.items() if count % degree]
    if not uneven:
        return None
    most = max(d for d in range(1, degree) if all(count % d == 0 for count in counted.values()))
    return (
        f"loop.context_parallel={degree} does not divide the {' and the '.join(uneven)} of an item; use {most}, or "
        "another size"
    )


def token_sides(parts: Mapping[str, Numbers], latents: tuple[int, ...]) -> list[int]:
    """Tokens of an item with `latents` (c, [f], h, w) along each of its sides."""
    vae, denoiser = parts["vae"], parts["transformer"]
    packed = denoiser["in_channels"] // vae.get("z_dim", vae.get("latent_channels"))
    side = max(_side(denoiser.get("patch_size")), isqrt(packed))
    return [*latents[1:-2], latents[-2] // side, latents[-1] // side]


def _side(patch: Any) -> int:
    """Latents along a side of a token, by the config's patch_size."""
    side = patch[-1] if isinstance(patch, list | tuple) and patch else patch
    return side if isinstance(side, int) else 1


def _space(vae: Numbers) -> int | None:
    """Pixels along a side of a latent, as diffusers' pipelines tell it from the VAE's config; None if it does not."""
    for key in ("scale_factor_spatial", "spatial_compression_ratio"):
        if isinstance(vae.get(key), int):
            return vae[key]
    if isinstance(vae.get("temperal_downsample"), list | tuple):
        return 2 ** len(vae["temperal_downsample"])
    if "LTX" in str(vae.get("_class_name")):
        return None
    blocks = vae.get("encoder_block_out_channels", vae.get("block_out_channels"))
    return 2 ** (len(blocks) - 1) if isinstance(blocks, list | tuple) else None


def _time(vae: Numbers) -> int | None:
    """Frames that clips have beside the first, or a multiple of them; None if the VAE's config does not tell."""
    # CogVideoX takes two of these packs at a time
    packs = 2 if "CogVideoX" in str(vae.get("_class_name")) else 1
    for key in ("scale_factor_temporal", "temporal_compression_ratio"):
        if isinstance(vae.get(key), int | float):
            return packs * int(vae[key])
    if isinstance(vae.get("temperal_downsample"), list | tuple):
        return 2 ** sum(map(bool, vae["temperal_downsample"]))
    return None
