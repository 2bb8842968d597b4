"""How training goes on: loop, optimiser, previews.

Without torch, like all of the schema.
"""

from dataclasses import dataclass
from typing import Literal

from seppo_core.config.method import SchedulerName
from seppo_core.config.validators import above, at_least


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Algorithm 1: per iteration, draw a reference, let it sample, update, take a snapshot."""

    iterations: int = 7
    """Times a reference is drawn."""
    updates_per_iteration: int = 30
    """Optimiser updates per iteration; every pair is used once."""
    batch_size: int = 2048
    """Pairs per update, over all processes and accumulation steps."""
    micro_batch_size: int = 1
    """Pairs in one forward pass of a process; the rest of batch_size is accumulated."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Autocast of policy and reference alike."""
    sharded: bool = False
    """Share weights, gradients, moments and reference between the processes (FSDP2) instead of a copy on each."""
    offload_reference: bool = False
    """Keep a reference of full weights in the CPU's memory while it is not used: less memory, more time."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    attention: Literal["sdpa", "xformers"] = "sdpa"
    """Attention kernels; xformers is for UNets, and needs CUDA and the extra `gpu`."""
    checkpoint_every: int = 30
    """Updates between checkpoints; the last update always makes one."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep; snapshots for the reference pool are kept apart, all of them."""

    def __post_init__(self):
        at_least("loop", self, 1, "iterations", "updates_per_iteration", "batch_size", "micro_batch_size")
        at_least("loop", self, 1, "checkpoint_every", "keep_checkpoints")
        if self.sharded and self.offload_reference:
            raise ValueError("loop.offload_reference=true does not go with loop.sharded=true, which shards it; use one")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"loop.batch_size={self.batch_size} is not a multiple of "
                f"loop.micro_batch_size={self.micro_batch_size}; "
                f"use e.g. {max(1, self.batch_size // self.micro_batch_size) * self.micro_batch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW; its moments, schedule and count run on through all iterations."""

    name: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit keeps its moments in 8 bits; it needs bitsandbytes (the extra `gpu`)."""
    lr: float = 1e-5
    """Learning rate as it is applied. Code that multiplies by the batch size (`scale_lr`) quotes it before that."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the mean and of the square of the gradient."""
    eps: float = 1e-8
    """Added to the denominator of the step."""
    weight_decay: float = 0.01
    """Pull of the weights towards zero, decoupled from the gradient."""
    max_grad_norm: float | None = 1.0
    """Gradients are clipped to this norm; null does not clip."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After warm-up: stay, or decay to zero at the last update."""
    warmup_updates: int = 0
    """Updates over which the rate rises linearly from zero."""
    ema_decay: float | None = None
    """Decay of a running average of the weights, for previews, samples and export, e.g. 0.999; null keeps none."""

    def __post_init__(self):
        above("optimizer", self, 0, "lr", "eps", "max_grad_norm")
        at_least("optimizer", self, 0, "weight_decay", "warmup_updates")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"optimizer.ema_decay={self.ema_decay} must lie in (0, 1); use e.g. 0.999, or null")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas={list(self.betas)} must lie in [0, 1); use e.g. [0.9, 0.999]")


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Sample grids of fixed prompts while training; also what `sample` does unless told otherwise."""

    prompts: tuple[str, ...] = ()
    """One row of the grid each."""
    every: int = 0
    """Updates between grids; 0 makes the first and the last alone."""
    per_prompt: int = 4
    """Samples per prompt."""
    seed: int = 0
    """Of the samples; the same at every grid."""
    scheduler: SchedulerName = "default"
    """Solver; default is the model's own."""
    steps: int = 50
    """Denoising steps."""
    guidance_scale: float = 7.5
    """Classifier-free guidance; 1 turns it off."""

    def __post_init__(self):
        at_least("preview", self, 1, "per_prompt", "steps")
        at_least("preview", self, 0, "every", "guidance_scale")
        if self.every and not self.prompts:
            raise ValueError(f"preview.every={self.every} asks for grids but preview.prompts is empty; add a prompt")
