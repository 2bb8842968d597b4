"""What the GPUs that share an item send each other within its attentions (loop.context_parallel). Imports no torch."""

from functools import lru_cache
from math import prod

from seppo_core.config.geometry import token_sides
from seppo_core.config.model import ModelConfig
from seppo_core.config.schema import Config
from seppo_core.plan.architecture import model_architecture
from seppo_core.plan.step_costs import StepCosts

HELD = {False: 6, True: 7}
"""Tensors of a query's size that an attention holds beside those of one GPU alone, forward and backward: queries, keys
and values as they are sent and as they came; going back their gradients, and that of the result."""
SENT = 4
"""Queries, keys, values and the result, or the gradients of these."""


def items_at_once(config: Config) -> int:
    """Items in a forward pass of one micro-batch: winners and counterparts."""
    return config.loop.micro_batch_size * (2 if config.method.spec.contrastive else 1)


def held(config: Config, costs: StepCosts, items: int, backward: bool = False) -> int:
    """Bytes of what one attention over so many items sends and receives, on each GPU."""
    if config.loop.context_parallel == 1:
        return 0
    _, numbers = _attention(config.model, costs.latent_shape)
    return HELD[backward] * items * _local(config, numbers)


def sent(config: Config, costs: StepCosts, gpus: int) -> int:
    """Bytes that each GPU sends to the others in one update: of its part of an attention's tensors it keeps its own
    heads. How many passes the reference makes, and the method beside its loss, is told by their FLOPs."""
    loop = config.loop
    degree = loop.context_parallel
    blocks, numbers = _attention(config.model, costs.latent_shape)
    drawn = 0 if costs.observe else config.method.anchor_draws * loop.micro_batch_size
    # whole passes: one of the base itself counts fewer FLOPs than one with a LoRA
    alone = drawn + round((costs.step_reference + costs.observe) / costs.forward)
    recomputed = loop.gradient_checkpointing * loop.checkpointing_share
    passes = items_at_once(config) * (2 + recomputed) + alone
    micro_batches = loop.batch_size / loop.micro_batch_size * degree / gpus
    return round(micro_batches * passes * blocks * SENT * _local(config, numbers) * (degree - 1) / degree)


def _local(config: Config, numbers: int) -> int:
    """Bytes of so many numbers of an item, of which each GPU has its part."""
    return numbers * (2 if config.in_half_precision else 4) // config.loop.context_parallel


@lru_cache
def _attention(model: ModelConfig, latents: tuple[int, ...]) -> tuple[int, int]:
    """Number of blocks whose attention is split, and of the numbers of an item's queries in one of them."""
    parts = model_architecture(model).parts
    denoiser = parts["transformer"]
    text = vars(model)["text_tokens"] if model.spec.context == "latents and text" else 0
    width = denoiser["num_attention_heads"] * denoiser["attention_head_dim"]
    blocks = denoiser["num_layers"] + (denoiser.get("num_single_layers") or 0)
    return blocks, (prod(token_sides(parts, latents)) + text) * width
