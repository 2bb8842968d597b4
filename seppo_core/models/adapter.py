"""The one interface that a model family implements."""

from abc import ABC, abstractmethod
from pathlib import Path as FilePath
from typing import Literal, NamedTuple

import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers import SchedulerMixin
from jaxtyping import Float, Num
from peft import LoraConfig
from torch import Tensor, nn

from seppo_core.export.snippets import FOLDER, Sources, pipeline_code, quoted
from seppo_core.models.noise_path import Path
from seppo_core.models.text import too_long

Condition = dict[str, Tensor]
"""What the denoiser is told besides x_t and t: named tensors, each batch-first, (b, ...)."""


class Posterior(NamedTuple):
    """The VAE's Gaussian over unit-variance latents: `mean` and `logvar`, each (b, c, [f], h, w), float32."""

    mean: Tensor
    logvar: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """Latents for unit normal `noise` of the posterior's shape; zero noise gives the mode."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise


class CropInfo(NamedTuple):
    """How an item's pixels were cut out of its file: size before the crop, where the crop begins, size after it."""

    original_height: int
    original_width: int
    top: int
    left: int
    height: int
    width: int


class Adapter(ABC):
    """A frozen VAE and text encoder around one trainable `denoiser`: a thin view of a diffusers pipeline.

    Latents are (b, c, h, w) for images and (b, c, f, h, w) for videos, scaled to unit variance as the denoiser sees
    them. Pixels are (b, 3, [f], h, w) in [-1, 1]. `t` is in the scheduler's own units (0..1000), so that any diffusers
    scheduler can drive sampling. Precision, EMA, saving, guidance and logging stay out of an adapter.
    """

    pipeline: DiffusionPipeline
    path: Path
    scheduler: SchedulerMixin
    """The solver that the family samples with unless told otherwise; `sample` works on copies of it."""
    denoiser: nn.Module
    """The only trained module. `predict` is handed the policy or a reference and reads nothing but the config here."""
    component: Literal["unet", "transformer"] = "unet"
    """The denoiser's name in the pipeline, by which its LoRA files are saved and loaded."""
    xformers: bool = False
    """Whether xformers computes the denoiser's attention (see `set_attention`). diffusers swaps a plain form in for any
    model and forgets what is not plain; xformers itself refuses masks of odd lengths, and queries that a norm left in
    float32 under autocast. True is for what the contract has compared."""
    guidance: Literal["cfg", "embedded", "none"]
    """Classifier-free, by two forward passes; embedded, told to a distilled denoiser (`with_guidance`); or none."""
    lora_targets: dict[str, str | list[str]]
    """What a LoRA may sit on, by scope: peft `target_modules`. All have "all"; videos add "motion" and "spatial"."""
    masked_text: dict[str, str] = {}  # noqa: RUF012
    """Tensors of `encode_prompts` that the denoiser reads only where a mask says so, and that mask, by name. A cache
    stores no more of them; elsewhere they come back as zeros."""
    trainable: dict[str, str]
    """What full fine-tuning may touch, by scope: a regular expression that parameter names match from their start."""

    @abstractmethod
    def encode_prompts(self, prompts: list[str]) -> Condition:
        """Condition for `prompts`, as the family's pipeline would build it; "" gives the unconditional one."""

    def size_condition(self, framings: list[CropInfo]) -> Condition:
        """What the denoiser is told of each item beside its caption (SDXL: size and crop); empty for most families."""
        return {}

    def with_guidance(self, condition: Condition, guidance_scale: float) -> Condition:
        """`condition` as sampling at `guidance_scale` wants it: denoisers with embedded guidance are told the scale.

        In training `predict` gets the condition without it, and such a family takes a value of its own.
        """
        return condition

    def truncated(self, prompts: list[str]) -> list[int]:
        """Positions of the prompts that are longer than the text encoder's limit and lose their ends."""
        return too_long(self.pipeline.tokenizer, prompts)

    @abstractmethod
    def encode(self, pixels: Float[Tensor, " b 3 *shape"]) -> Posterior: ...

    @abstractmethod
    def decode(self, latents: Float[Tensor, " b c *shape"]) -> Float[Tensor, " b 3 *pixels"]:
        """Pixels in [-1, 1] (not clamped)."""

    @abstractmethod
    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        """(c, [f], h, w) of one item's latents; ValueError, with the nearest size that fits, where none exists."""

    @abstractmethod
    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, " b c *shape"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, " b c *shape"]:
        """One forward pass of `denoiser` (the policy, a reference, or either wrapped for several processes)."""

    def timesteps(self, scheduler: SchedulerMixin, steps: int, latent_shape: tuple[int, ...], device) -> Tensor:
        """Sets the scheduler's time grid and returns it, (steps,); families that shift it by resolution override."""
        scheduler.set_timesteps(steps, device=device)
        return scheduler.timesteps

    def load_lora(self, source: str, name: str) -> None:
        """Puts the LoRA of `source`, a folder, file or hub id, on the denoiser as peft's adapter `name`.

        Families whose diffusers pipeline has no LoRA loader override this, `save_lora` and `lora_code` (see
        `lora_files`).
        """
        self.pipeline.load_lora_weights(source, adapter_name=name)

    def save_lora(self, folder: FilePath, state: dict[str, Tensor], config: LoraConfig) -> None:
        """Writes a LoRA of the denoiser, its tensors by portable name, for the pipeline's `load_lora_weights`."""
        # without this metadata a loader takes alpha for the rank, and the LoRA acts at another strength
        self.pipeline.save_lora_weights(
            folder,
            **{f"{self.component}_lora_layers": state},
            **{f"{self.component}_lora_adapter_metadata": config.to_dict()},
        )

    @abstractmethod
    def export_pipeline(self) -> DiffusionPipeline:
        """A plain diffusers pipeline around the current denoiser, whose `save_pretrained` anyone can load."""

    def usage(self, kind: str, sources: Sources) -> list[str]:
        """Python, line by line, that makes a plain diffusers pipeline, `pipe`, of an export in `FOLDER`.

        `kind` is what was exported: "lora", or "full" for a whole pipeline. Model cards show it (see `usage.script`).
        """
        if kind == "full":
            return pipeline_code(self.pipeline, {"base": FOLDER}, **self.loading_code())
        return [*self.base_code(sources), *self.lora_code()]

    def base_code(self, sources: Sources) -> list[str]:
        """Makes `pipe` of what the run began with, as its denoiser was told and sampled."""
        return pipeline_code(self.pipeline, sources, **self.loading_code())

    def loading_code(self) -> dict[str, str]:
        """Further arguments, and their code, of the pipeline's `from_pretrained`."""
        return {}

    def lora_code(self) -> list[str]:
        """Puts on `pipe` what `save_lora` wrote."""
        return [f"pipe.load_lora_weights({quoted(FOLDER)})"]

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    @property
    def vae_device(self) -> torch.device:
        """Where `encode` and `decode` compute; the denoiser may be elsewhere, and in `prepare` is nowhere."""
        return self.pipeline.vae.device
