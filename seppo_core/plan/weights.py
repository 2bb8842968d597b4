"""Bytes of a model's weights that stay in memory, counted on a model without memory."""

from collections import Counter as Frequencies
from math import prod

from torch import nn

from seppo_core.methods.reference import Reference
from seppo_core.models.adapter import Adapter
from seppo_core.models.blocks import blocks
from seppo_core.models.quantize import is_large_text, layers
from seppo_core.models.tuning import lora_layers, trainable_parameters
from seppo_core.plan.counter import bytes_of, weights_of
from seppo_core.plan.step_costs import Block, Matrices, Weights


def count_weights(adapter: Adapter, reference: Reference | None, base: int, parameters: int) -> Weights:
    """Counts a tuned denoiser; `base` and `parameters` are its bytes and parameters before a LoRA was added."""
    trained = trainable_parameters(adapter.denoiser)
    everything = bytes_of(weights_of(adapter.denoiser))
    is_lora = bool(lora_layers(adapter.denoiser))
    trained_bytes = bytes_of(trained.values())
    if reference is None:
        of_reference = 0
    elif is_lora:
        of_reference = trained_bytes
    else:
        of_reference = bytes_of(weights_of(adapter.denoiser, module_of(reference))) - everything
    found = [_block(block) for block in blocks(adapter.denoiser)]
    whole = _block(adapter.denoiser)
    modules = {name: m for name, m in adapter.pipeline.components.items() if isinstance(m, nn.Module)}
    modules[adapter.component] = adapter.denoiser
    texts = {name: bytes_of(weights_of(module)) for name, module in modules.items() if name.startswith("text_encoder")}
    return Weights(
        parameters=parameters,
        trained=sum(parameter.numel() for parameter in trained.values()),
        # full tuning raises the trained weights to float32
        base=base if is_lora else everything,
        lora=trained_bytes if is_lora else 0,
        reference=of_reference,
        trained_bytes=trained_bytes,
        block=max(found, key=lambda block: block.weights, default=Block(0, 0)),
        outside=Block(
            whole.weights - sum(block.weights for block in found), whole.trained - sum(block.trained for block in found)
        ),
        vae=bytes_of(weights_of(adapter.pipeline.vae)),
        texts=texts,
        dtypes={name: _dtype(module) for name, module in modules.items()},
        matrices={
            name: _matrices(module)
            for name, module in modules.items()
            if (name == adapter.component and is_lora) or (name in texts and is_large_text(module))
        },
        factored=sum(_factored(parameter) for parameter in trained.values()),
    )


def module_of(reference: Reference) -> nn.Module:
    """The module that predicts as the reference."""
    with reference.active() as module:
        return module


def _matrices(module: nn.Module) -> Matrices:
    weights = [layer.weight for _, layer in layers(module)]
    numbers = [weight.numel() for weight in weights]
    return Matrices(bytes_of(weights), sum(numbers), sum(len(weight) for weight in weights), max(numbers, default=0))


def _factored(parameter: nn.Parameter) -> int:
    """Numbers of Adafactor's second moments: a mean for each row and each column of the last two dimensions."""
    if parameter.ndim < 2:
        return parameter.numel()
    *lead, rows, columns = parameter.shape
    return prod(lead) * (rows + columns)


def _block(module: nn.Module) -> Block:
    parameters = list(module.parameters())
    return Block(bytes_of(parameters), bytes_of(parameter for parameter in parameters if parameter.requires_grad))


def _dtype(module: nn.Module) -> str:
    """The dtype of most weights of `module`."""
    counts = Frequencies()
    for parameter in module.parameters():
        counts[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
    return counts.most_common(1)[0][0]
