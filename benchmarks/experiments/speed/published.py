"""The published bases, each at the size that it is usually trained at, most worth first. Without torch."""

from dataclasses import dataclass

Size = tuple[int, int] | tuple[int, int, int]
"""Height, width, and the frames of a clip."""


@dataclass(frozen=True)
class Published:
    """A base whose architecture is known without network."""

    base: str
    """The last part of its hub id."""
    size: Size
    """As the recipe in configs/ has it, if there is one."""
    on_cpu: Size | None = None
    """A size that a CPU can measure in minutes, if there is one."""
    again: bool = False
    """Whether a base of the same family stands above it."""

    def options(self) -> tuple[str, ...]:
        """Base and size as the commands take them."""
        sides = zip(("--height", "--width", "--frames"), map(str, self.size), strict=False)
        return ("--base", self.base, *(word for side in sides for word in side))


PUBLISHED = {
    "sd15": Published("stable-diffusion-v1-5", (512, 512), on_cpu=(512, 512)),
    "sdxl": Published("stable-diffusion-xl-base-1.0", (1024, 1024), on_cpu=(512, 512)),
    "animatediff": Published("stable-diffusion-v1-5", (256, 256, 16), on_cpu=(256, 256, 16)),
    "flux": Published("FLUX.1-dev", (1024, 1024)),
    "wan": Published("Wan2.1-T2V-1.3B-Diffusers", (480, 832, 33), on_cpu=(192, 192, 17)),
    "sd35": Published("stable-diffusion-3.5-medium", (1024, 1024)),
    "sana": Published("Sana_1600M_1024px_BF16_diffusers", (1024, 1024)),
    "ltx": Published("LTX-Video", (512, 704, 97), on_cpu=(256, 256, 17)),
    "cogvideox-5b": Published("CogVideoX-5b", (480, 720, 49)),
    "pixart": Published("PixArt-Sigma-XL-2-1024-MS", (1024, 1024)),
    "hunyuan": Published("HunyuanVideo", (320, 512, 49)),
    "qwen": Published("Qwen-Image", (1024, 1024)),
    "animatediff-sdxl": Published("stable-diffusion-xl-base-1.0", (512, 512, 16)),
    "wan-14b": Published("Wan2.1-T2V-14B-Diffusers", (480, 832, 33), again=True),
    "cogvideox-2b": Published("CogVideoX-2b", (480, 720, 49), again=True),
    "cogvideox15": Published("CogVideoX1.5-5B", (768, 1360, 81), again=True),
    "sd21": Published("stable-diffusion-2-1", (768, 768), again=True),
    "sd3": Published("stable-diffusion-3-medium-diffusers", (1024, 1024), again=True),
    "sd35-large": Published("stable-diffusion-3.5-large", (1024, 1024), again=True),
    "sana-600m": Published("Sana_600M_1024px_diffusers", (1024, 1024), again=True),
    "flux-schnell": Published("FLUX.1-schnell", (1024, 1024), again=True),
    "sd21-base": Published("stable-diffusion-2-1-base", (512, 512), on_cpu=(512, 512), again=True),
    "pixart-512": Published("PixArt-Sigma-XL-2-512-MS", (512, 512), on_cpu=(512, 512), again=True),
}
"""Bases by the name that `--published` and the steps of `gpu` have. An image base with frames is AnimateDiff's."""
