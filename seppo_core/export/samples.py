"""Samples for people and for scorers: every prompt with every seed, into a folder that says what is what."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers.schedulers import SchedulerMixin
from jaxtyping import Float, UInt8
from torch import Tensor

from seppo_core.export.sample_folder import Asked, SampleFolder
from seppo_core.io import purposes
from seppo_core.io.progress import progress_bar
from seppo_core.io.rng import keyed_generator, keyed_normal
from seppo_core.models.adapter import Adapter
from seppo_core.models.finite import is_finite
from seppo_core.models.pixels import to_frames
from seppo_core.models.sampling import sample

WriteSample = Callable[[Path, UInt8[Tensor, "f h w 3"]], Path]
"""Writes frames (one for an image) as a file named after a stem, and returns the file's path."""


def noise_key(prompt: str, seed: int) -> tuple[int | str, ...]:
    """The key of the noise that a sample is drawn from, for `keyed_normal`."""
    return seed, purposes.DRAW, prompt


class Draw:
    """Draws pixels for (prompt, seed) pairs. A sample's noise depends on its seed and prompt alone, not on the order
    or batch that it is drawn in, so that models can be compared sample by sample."""

    def __init__(
        self,
        adapter: Adapter,
        latent_shape: tuple[int, ...],
        *,
        steps: int,
        guidance_scale: float,
        scheduler: SchedulerMixin,
    ):
        self.adapter = adapter
        self.latent_shape = latent_shape
        self.steps = steps
        self.guidance_scale = guidance_scale
        self.scheduler = scheduler
        self._unconditional = adapter.encode_prompts([""])

    @torch.no_grad()
    def __call__(self, pairs: list[tuple[str, int]]) -> Float[Tensor, " b 3 *pixels"]:
        """Pixels in [-1, 1] for `pairs` of prompt and seed, float32 on the CPU."""
        keys = [noise_key(*pair) for pair in pairs]
        device = self.adapter.device
        condition = self.adapter.encode_prompts([prompt for prompt, _ in pairs])
        latents = sample(
            self.adapter,
            self.adapter.denoiser,
            {key: value.to(device) for key, value in condition.items()},
            noise=torch.stack([keyed_normal(self.latent_shape, *key) for key in keys]).to(device),
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            unconditional={key: value.to(device) for key, value in self._unconditional.items()},
            scheduler=self.scheduler,
            generators=[keyed_generator(*key, purposes.SAMPLER) for key in keys],
        )
        return self.adapter.decode(latents).float().clamp(-1, 1).cpu()


def draw_samples(draw: Draw, wanted: list[Asked], folder: SampleFolder, write: WriteSample, batch_size: int) -> None:
    """Adds a file for each of `wanted` to `folder`, each noted there as soon as it is written."""
    with progress_bar(len(wanted), unit="sample", description="samples") as bar:
        for part in _parts(wanted, batch_size):
            pixels = draw(part)
            for (prompt, seed), values in zip(part, pixels, strict=True):
                if not is_finite(values):
                    raise FloatingPointError(
                        f"seed {seed} of {prompt[:60]!r} gives pixels that are not finite, which would be drawn black; "
                        "half precision may overflow: use --model.dtype bfloat16 or float32"
                    )
            for (prompt, seed), frames in zip(part, to_frames(pixels), strict=True):
                folder.add(write(folder.stem(prompt, seed), frames), prompt, seed)
            bar.update(len(part))


def _parts(jobs: list, size: int) -> Iterator[list]:
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]
