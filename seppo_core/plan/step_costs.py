"""The record of what the parts of a run cost on one GPU; `measure` fills it."""

from dataclasses import dataclass

from seppo_core.plan.counter import Cost
from seppo_core.plan.weights import Weights


@dataclass(frozen=True)
class StepCosts:
    """What the parts of a run cost on one GPU."""

    component: str
    """Name of the denoiser among the pipeline's components."""
    weights: Weights
    latent_shape: tuple[int, ...]
    item_bytes: int
    """Bytes that `prepare` stores for one item in data.cache_dtype, without its caption."""
    caption_bytes: int
    """Bytes that `prepare` stores for one caption."""
    forward: int
    """FLOPs of one forward pass of the policy over one item."""
    steps: dict[bool, Cost]
    """Cost of one micro-batch without (False) and with (True) gradient checkpointing: every pass of policy and
    reference, and the policy's backward pass."""
    step_reference: int
    """FLOPs of the reference's passes in one micro-batch."""
    reference_peak: int
    """Peak bytes allocated by the reference's forward passes in one micro-batch."""
    observe: int
    """FLOPs of one micro-batch in the pass that a method makes over the whole batch before its losses."""
    denoising: Cost | None
    """Cost of one solver step of a batch of reference samples; None if the method generates none."""
    calls: int
    """Forward passes of the denoiser for one reference sample, both passes of guidance counted."""
    guided: bool
    """Whether reference samples take a second forward pass for classifier-free guidance."""
    previewing: Cost | None
    """Cost of one solver step of a row of previews; None if the config names no prompts."""
    previews_guided: bool
    """Whether previews take a second forward pass for classifier-free guidance."""
    decoding: Cost | None
    """Cost of the VAE decoding `decoded` items; None if nothing is decoded."""
    decoded: int
    """Number of items that are decoded at once: a row of previews, or a batch of samples that are encoded again."""
    encoding: Cost
    """Cost of the VAE encoding a batch of `prepare`."""
    encoding_one: Cost
    """Cost of the VAE encoding one item: a VAE that splits clips into parts needs as much memory for it as for a
    batch."""
