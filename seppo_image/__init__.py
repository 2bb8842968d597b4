"""Text-to-image families and their data."""

from seppo_core.io.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "config": ["ImageConfig"],
        "data": ["ImageFolder"],
        "flux": ["Flux"],
        "pixart": ["PixArtSigma"],
        "sana": ["Sana"],
        "sd3": ["StableDiffusion3"],
        "sdxl": ["StableDiffusionXL"],
        "stable_diffusion": ["StableDiffusion"],
    },
)
