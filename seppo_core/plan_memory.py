"""Memory of one GPU, by what a run is doing and by part."""

from seppo_core.config import Config
from seppo_core.plan_gpus import GIB
from seppo_core.plan_work import Work

CONTEXT = GIB
"""Assumed for CUDA's context and the workspaces of its libraries."""

Phases = dict[str, dict[str, int]]
"""Bytes by phase and part."""


def memory(config: Config, work: Work, gpus: int) -> Phases:
    """What each phase of `prepare` and `train` holds at its peak, on each of `gpus`."""
    weights, trained = work.weights, work.weights.trained_bytes
    dtypes = weights.dtypes
    held = {
        f"policy, {dtypes[work.component]}": weights.base,
        "LoRA, float32": weights.lora,
        "reference's own weights": weights.reference,
        f"states of {config.optimizer.name}": moments(config, work),
        "EMA": trained if config.optimizer.ema_decay is not None else 0,
        f"VAE, {dtypes['vae']}": weights.vae if work.decoding is not None else 0,
        "CUDA context, assumed": CONTEXT,
    }
    gradients = {"gradients": trained, "gradient buckets between GPUs": trained if gpus > 1 else 0}
    step = work.steps[config.loop.gradient_checkpointing]
    phases = {
        "prepare": {
            f"VAE, {dtypes['vae']}": weights.vae,
            **{f"{name}, {dtypes[name]}": size for name, size in weights.texts.items()},
            "activations": work.encoding.peak,
            "CUDA context, assumed": CONTEXT,
        },
        "training": held | gradients | {"activations": step.peak},
        # torch's AdamW computes the steps of all weights at once
        "optimizer step": held | gradients | {"steps of all weights": trained},
    }
    if work.denoising is not None:
        phases["generation"] = held | {"activations": work.denoising.peak}
    if work.decoding is not None:
        phases["decoding"] = held | {"activations": work.decoding.peak}
    return {name: {part: size for part, size in parts.items() if size} for name, parts in phases.items()}


def moments(config: Config, work: Work) -> int:
    """Bytes of AdamW's two moments: 4 each a weight, or 1 with a scale for every 256 of them."""
    if config.optimizer.name == "adamw8bit":
        return round(2 * work.weights.trained * (1 + 4 / 256))
    return 2 * 4 * work.weights.trained


def peak(phases: Phases, prepare: bool = True) -> int:
    """The most that any phase holds."""
    return max(sum(parts.values()) for name, parts in phases.items() if prepare or name != "prepare")
