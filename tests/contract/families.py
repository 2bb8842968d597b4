"""Every family's row in the contract: a tiny pipeline, the adapter around it, and how plain diffusers runs the same."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diffusers import AnimateDiffPipeline, DiffusionPipeline, StableDiffusionPipeline
from torch import Generator, Tensor

from seppo_core.adapter import Adapter
from seppo_image.stable_diffusion import StableDiffusion
from seppo_video.animatediff import AnimateDiff
from tests import tiny


@dataclass(frozen=True)
class Family:
    """One family. `pipeline` builds a fresh one with the same weights each time; `folder` is for its tokenizer."""

    name: str
    latent_shape: tuple[int, ...]
    pipeline: Callable[[Path], DiffusionPipeline]
    wrap: Callable[[DiffusionPipeline], Adapter]
    load_plain: Callable[[Path], DiffusionPipeline]

    def adapter(self, folder: Path) -> Adapter:
        return self.wrap(self.pipeline(folder))

    def pipeline_latents(
        self,
        pipeline: DiffusionPipeline,
        prompts: list[str],
        noise: Tensor,
        *,
        steps: int,
        guidance_scale: float,
        generators: list[Generator] | None = None,
    ) -> Tensor:
        """What the family's own diffusers pipeline makes of `noise`, as latents."""
        size = {"height": self.latent_shape[-2] * 8, "width": self.latent_shape[-1] * 8}
        frames = {"num_frames": self.latent_shape[1]} if len(self.latent_shape) == 4 else {}
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(
            prompts, latents=noise.clone(), num_inference_steps=steps, guidance_scale=guidance_scale,
            output_type="latent", generator=generators, **size, **frames,
        )[0]  # fmt: skip


FAMILIES = [
    Family(
        "stable-diffusion",
        (4, 8, 8),
        tiny.stable_diffusion,
        StableDiffusion,
        lambda folder: StableDiffusionPipeline.from_pretrained(folder, safety_checker=None),
    ),
    Family(
        "stable-diffusion-v",
        (4, 8, 8),
        lambda folder: tiny.stable_diffusion(folder, "v_prediction"),
        StableDiffusion,
        lambda folder: StableDiffusionPipeline.from_pretrained(folder, safety_checker=None),
    ),
    Family(
        "animatediff",
        (4, 4, 8, 8),
        tiny.animatediff,
        AnimateDiff,
        AnimateDiffPipeline.from_pretrained,
    ),
]
