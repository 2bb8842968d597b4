"""The cases: one recipe each, at its own size if a machine without a GPU can run it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Overrides = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Case:
    """A recipe with what is changed of it."""

    recipe: str
    """Path under configs/, without its ending."""
    family: str
    """Its row in the table of families."""
    about: str
    """The base, for people."""
    data: Mapping[str, int] = field(default_factory=dict)
    """Height, width and frames, if the recipe's own would take too long."""
    parts: Overrides = field(default_factory=dict)
    """Config keys of components that are changed, if the whole would not fit 24 GB of memory."""
    less: str = ""
    """The changed parts in words."""
    tune: Literal["full", "lora"] = "lora"

    @property
    def modality(self) -> Literal["image", "video"]:
        return "image" if self.recipe.startswith("image/") else "video"


T5_HALF: Overrides = {"text_encoder": {"num_layers": 12}}
CASES: dict[str, Case] = {
    "sd15": Case("image/sd15_lora_seppo", "stable-diffusion", "Stable Diffusion 1.5"),
    "sd15-full": Case("image/sd15_pickapic_seppo", "stable-diffusion", "Stable Diffusion 1.5", tune="full"),
    "sdxl": Case("image/sdxl_lora_seppo", "sdxl", "SDXL"),
    "sd35": Case("image/sd35_medium_lora_seppo", "sd3", "SD 3.5 medium", {"height": 512, "width": 512}),
    "pixart": Case("image/pixart_sigma_lora_seppo", "pixart-sigma", "PixArt-Σ"),
    "sana": Case("image/sana_1600m_lora_seppo", "sana", "Sana 1.6B"),
    "flux": Case(
        "image/flux_dev_lora_seppo", "flux-dev", "Flux.1-dev", {"height": 512, "width": 512},
        {"transformer": {"num_layers": 4, "num_single_layers": 8}, "text_encoder_2": {"num_layers": 12}},
        "12 of 57 blocks, 12 of T5's 24",
    ),
    "flux-schnell": Case(
        "image/flux_schnell_lora_seppo", "flux-schnell", "Flux.1-schnell", {"height": 256, "width": 256},
        {"transformer": {"num_layers": 4, "num_single_layers": 8}, "text_encoder_2": {"num_layers": 12}},
        "12 of 57 blocks, 12 of T5's 24",
    ),
    "animatediff": Case("video/animatediff_chronomagic_seppo", "animatediff", "AnimateDiff on SD-1.5"),
    "animatediff-sdxl": Case(
        "video/animatediff_sdxl_lora_seppo", "animatediff-sdxl", "AnimateDiff on SDXL", {"frames": 4}
    ),
    "wan": Case(
        "video/wan21_1_3b_lora_seppo", "wan", "Wan 2.1 1.3B", {"height": 256, "width": 384, "frames": 17},
        T5_HALF, "12 of umT5's 24 blocks",
    ),
    "ltx": Case("video/ltx_2b_lora_seppo", "ltx", "LTX-Video 2B", {"frames": 25}),
    "cogvideox-2b": Case(
        "video/cogvideox_2b_lora_seppo", "cogvideox-2b", "CogVideoX-2b", {"height": 256, "width": 384, "frames": 17}
    ),
    "cogvideox-5b": Case(
        "video/cogvideox_5b_lora_seppo", "cogvideox-5b", "CogVideoX-5b", {"height": 256, "width": 384, "frames": 17},
        {"transformer": {"num_layers": 14}}, "14 of 42 blocks",
    ),
    "cogvideox-1.5": Case(
        "video/cogvideox15_5b_lora_seppo", "cogvideox-1.5", "CogVideoX-1.5-5B",
        {"height": 256, "width": 384, "frames": 17}, {"transformer": {"num_layers": 14}}, "14 of 42 blocks",
    ),
    "hunyuan": Case(
        "video/hunyuan_lora_seppo", "hunyuan", "HunyuanVideo", {"height": 256, "width": 384, "frames": 17},
        {"transformer": {"num_layers": 4, "num_single_layers": 8}, "text_encoder": {"num_hidden_layers": 8}},
        "12 of 60 blocks, 8 of LLaMA's 32",
    ),
}  # fmt: skip
"""Cases by the name that `--only` takes."""
