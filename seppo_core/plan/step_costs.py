"""The record of what the parts of a run cost on one GPU; `measure` fills it. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """The cost of a piece of code. A multiplication and an addition are two FLOPs."""

    flops: int
    peak: int
    """Most bytes alive at once, of tensors that were made on the way."""
    kept: int
    """Bytes alive at the end."""

    def times(self, share: float) -> "Cost":
        """The cost of a batch that is `share` times as large."""
        return Cost(round(self.flops * share), round(self.peak * share), round(self.kept * share))


@dataclass(frozen=True)
class Block:
    """Bytes of the weights that shards are gathered to at once."""

    weights: int
    trained: int
    """Bytes of the trained weights among them, whose gradients are gathered too."""


@dataclass(frozen=True)
class Matrices:
    """The frozen matrices and convolutions of a model's blocks, which `model.quantize` and `model.quantize_text` keep
    in fewer bits. A convolution's weights count as a matrix, with a row for each channel that comes out."""

    weights: int
    """Bytes as they are loaded."""
    numbers: int
    rows: int
    """Rows of all of them; 8-bit forms keep a scale for each."""
    largest: int
    """Numbers of the largest one."""


@dataclass(frozen=True)
class Weights:
    """Bytes and counts of the weights that stay in memory."""

    parameters: int
    """Number of parameters of the denoiser without a LoRA."""
    trained: int
    """Parameters that are trained: all, some, or a LoRA's."""
    base: int
    """Bytes of the denoiser without a LoRA."""
    lora: int
    """Bytes of the policy's LoRA."""
    reference: int
    """Bytes that the reference needs beside the policy."""
    trained_bytes: int
    block: Block
    """The largest block; shards are gathered block by block."""
    outside: Block
    """Weights outside of all blocks, which stay gathered for a whole pass."""
    vae: int
    texts: dict[str, int]
    """Bytes of the text encoders by name."""
    dtypes: dict[str, str]
    """Dtype of most weights, by component."""
    matrices: dict[str, Matrices]
    """By component: of the denoiser under a LoRA, and of text encoders other than CLIP."""
    factored: int
    """Numbers that Adafactor keeps of the trained weights."""


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
    block_inputs: int
    """Bytes that recomputation starts from, the inputs of all blocks in one micro-batch; 0 for a UNet."""
    observe: int
    """FLOPs of one micro-batch in the pass that a method makes over the whole batch before its losses."""
    denoising: Cost | None
    """Cost of one solver step of a batch of reference samples; None if the method generates none."""
    calls: int
    """Forward passes of the denoiser for one reference sample, both passes of guidance counted."""
    guided: bool
    """Whether reference samples take a second forward pass for classifier-free guidance."""
    previewing: Cost | None
    """Cost of one solver step of a batch of previews; None if the config names no prompts."""
    previews_guided: bool
    """Whether previews take a second forward pass for classifier-free guidance."""
    decoding: Cost | None
    """Cost of the VAE decoding `decoded` items; None if nothing is decoded."""
    decoded: int
    """Number of items that are decoded at once: a batch of previews, or a batch of samples that are encoded again."""
    encoding: Cost
    """Cost of the VAE encoding a batch of `prepare`."""
    encoding_one: Cost
    """Cost of the VAE encoding one item: a VAE that splits clips into parts needs as much memory for it as for a
    batch."""
