"""What ComfyUI calls the layers of a LoRA of each image family."""

from collections.abc import Mapping

from torch import Tensor, nn

from seppo_core.export.comfyui import Layer, named

KOHYA = ("lora_down", "lora_up")


def unet(denoiser: nn.Module, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """Stable Diffusion and SDXL: kohya's names on diffusers' modules."""
    return named(layers, lambda module: f"lora_unet_{module.replace('.', '_')}", KOHYA)


def flux(denoiser: nn.Module, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """Flux: OneTrainer's names on diffusers' modules."""
    return named(layers, lambda module: f"lora_transformer_{module.replace('.', '_')}", KOHYA)


def sd3(denoiser: nn.Module, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """Stable Diffusion 3: diffusers' names."""
    return named(layers, lambda module: f"transformer.{module}")


def qwen_image(denoiser: nn.Module, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """Qwen-Image: the model's own names, which are diffusers'."""
    return named(layers, lambda module: f"diffusion_model.{module}")
