"""Frozen weights in fewer bits, by bitsandbytes or torchao.

Only matrices and convolutions of a model's blocks are changed. What stands before and after them is small, and
families read the dtype of these weights. Their gradient with respect to the input passes through, so that a LoRA beside
them learns.
"""

from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch
from packaging.version import Version
from torch import nn

from seppo_core.config.model import PACKAGES, ModelConfig, Quantized
from seppo_core.models.adapter import Adapter
from seppo_core.models.blocks import blocks
from seppo_core.models.few_bits import FewBitConvolution, multiplied
from seppo_core.models.offload import stored
from seppo_core.models.tuning import lora_layers

OUTLIERS = 6.0
"""Inputs above this are multiplied in half precision by LLM.int8() (arXiv 2208.07339, 2022; the paper's value)."""

BLOCK = 64
"""Numbers that share a scale in nf4. bitsandbytes misreads rows that are not whole blocks on CPUs with AVX-512: such
layers, of which published bases have none, stay as they are."""


def check_packages(model: ModelConfig) -> None:
    """Raises ValueError if what `model` asks for needs a package that is not there, or is too old; imports none."""
    for key in ("quantize", "quantize_text"):
        kind = vars(model)[key]
        if kind is None:
            continue
        name, least = PACKAGES[kind]
        try:
            found = version(name)
        except PackageNotFoundError:
            found = None
        if found is None or Version(found) < Version(least):
            there = "which is not installed" if found is None else f"and {found} is installed"
            raise ValueError(
                f"model.{key}={kind} needs {name} {least} or newer, {there}; pip install 'seppo[quantize]'"
            )


def quantize_denoiser(adapter: Adapter, model: ModelConfig, compute: torch.dtype, device: torch.device) -> None:
    """Puts the frozen layers of a tuned denoiser into the form that model.quantize names, one at a time, on `device`.

    `compute` is the dtype that they are multiplied in. ValueError if the denoiser carries no LoRA: such weights cannot
    be trained.
    """
    if model.quantize is None:
        return
    if not lora_layers(adapter.denoiser):
        raise ValueError(f"model.quantize={model.quantize} freezes the base and needs a LoRA; set tune.mode=lora")
    quantize(adapter.denoiser, model.quantize, compute, device, away=model.offload)


def quantize_texts(adapter: Adapter, model: ModelConfig, device: torch.device) -> None:
    """Moves the text encoders to `device` in the form that model.quantize_text names; CLIPs are small and stay as they
    are.

    ValueError if the pipeline has no other.
    """
    if model.quantize_text is None:
        return
    large = {
        name: module
        for name, module in adapter.pipeline.components.items()
        if name.startswith("text_encoder") and module is not None and is_large_text(module)
    }
    if not large:
        raise ValueError(
            f"model.quantize_text={model.quantize_text} has no effect: all text encoders of {model.base} are CLIPs, "
            "which are small; leave it out"
        )
    for module in large.values():
        quantize(module, model.quantize_text, module.dtype, device)
        module.to(device)


def is_large_text(module: nn.Module) -> bool:
    """Whether a text encoder is more than a CLIP."""
    return not type(module).__name__.startswith("CLIP")


def quantize(
    module: nn.Module, kind: Quantized, compute: torch.dtype, device: torch.device, away: bool = False
) -> None:
    """Exchanges the matrices and convolutions of the blocks of `module` (see `layers`) for those in the form `kind`, on
    `device`.

    With `away` each goes back to the CPU's memory at once, for `OffloadedBlocks`, so that `device` holds one at a time.
    """
    for name, layer in list(layers(module)):
        if kind == "nf4" and layer.weight[0].numel() % BLOCK:
            continue
        parent = module.get_submodule(name.rpartition(".")[0])
        if isinstance(layer, nn.Linear):
            made = _quantized(layer, kind, compute, away, device)
        else:
            made = FewBitConvolution(layer, compute)
            made.matrix = _quantized(made.matrix, kind, compute, away, device)
        setattr(parent, name.rpartition(".")[2], made.to(device))
        if away:
            _put_away(made)


def _quantized(linear: nn.Linear, kind: Quantized, compute: torch.dtype, away: bool, device: torch.device) -> nn.Linear:
    if PACKAGES[kind][0] != "torchao":
        return _of_bitsandbytes(linear, kind, compute, away).to(device)
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    # its results have the dtype that the weight had
    linear.to(device, compute)
    quantize_(linear, Int8WeightOnlyConfig() if kind == "int8wo" else Float8WeightOnlyConfig())
    return linear


def _put_away(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        for holder, name in stored(parameter):
            setattr(holder, name, getattr(holder, name).cpu())


def layers(module: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d | nn.Conv3d]]:
    """The frozen matrices of the blocks of `module`, and its convolutions without groups, by name.

    A LoRA's own are left out, and what the model's class keeps in float32.
    """
    inside = {id(part) for block in blocks(module) for part in block.modules()}
    kept = {"lora_A", "lora_B", *(getattr(module, "_keep_in_fp32_modules", None) or ())}
    for name, part in module.named_modules():
        if id(part) in inside and not kept & set(name.split(".")) and _can_be(part) and not part.weight.requires_grad:
            yield name, part


def _can_be(part: nn.Module) -> bool:
    if type(part) in (nn.Conv2d, nn.Conv3d):
        return part.groups == 1 and part.padding_mode == "zeros" and isinstance(part.padding, tuple)
    return type(part) is nn.Linear


def _of_bitsandbytes(linear: nn.Linear, kind: Quantized, compute: torch.dtype, away: bool) -> nn.Linear:
    """A layer of bitsandbytes with the weights of `linear`, which it quantises as it moves to a device."""
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    sizes = (linear.in_features, linear.out_features, linear.bias is not None)
    weight = linear.weight.data
    if kind == "nf4":
        made = Linear4bit(*sizes, compute_dtype=compute, quant_type="nf4", device="meta")
        made.weight = Params4bit(weight, requires_grad=False, quant_type="nf4")
        # a CPU with bfloat16 would repack the weights in the first pass without gradient: in another precision than
        # passes with gradient compute in, in a form that these cannot use, and only where rows are a multiple of 32
        made.support_avx512bf16_for_cpu = False
        if away:
            made.forward = partial(multiplied, made)
    else:
        made = Linear8bitLt(*sizes, has_fp16_weights=False, threshold=OUTLIERS, device="meta")
        made.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    made.bias = linear.bias
    return made.eval()
