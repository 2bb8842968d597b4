"""The one interface that a model family implements."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers import SchedulerMixin
from jaxtyping import Float, Num
from peft import LoraConfig
from torch import Tensor, nn

from seppo_core.config.model import ModelConfig
from seppo_core.models.checks import check_channels
from seppo_core.models.latents import Condition, CropInfo, Posterior
from seppo_core.models.loading import freeze, load_pipeline
from seppo_core.models.lora_files import load_lora_file, load_lora_folder, save_lora_folder
from seppo_core.models.noise_path import NoisePath
from seppo_core.models.text import encode_text, too_long

LoraTargets = Mapping[str, str | list[str]]
"""The modules that a LoRA may sit on, as peft's `target_modules`, by scope of training."""
ATTENTION: LoraTargets = MappingProxyType({"all": ["to_q", "to_k", "to_v", "to_out.0"]})
JOINT_ATTENTION: LoraTargets = MappingProxyType(
    {"all": [*ATTENTION["all"], "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]}
)
"""The targets for transformers in which caption and latents attend to each other."""


class SamplerChange(NamedTuple):
    """The change that an adapter made to its base's scheduler."""

    scheduler: type[SchedulerMixin]
    config: dict[str, Any]
    """Values that differ from the base's config."""


class Adapter(ABC):
    """A frozen VAE and text encoder around one trainable `denoiser`: a thin view of a diffusers pipeline.

    Latents are (b, c, h, w) for images and (b, c, f, h, w) for videos, scaled to unit variance as the denoiser sees
    them. Pixels are (b, 3, [f], h, w) in [-1, 1]. `t` is in the scheduler's own units (0..1000), so that any diffusers
    scheduler can drive sampling. Precision, EMA, saving, guidance and logging stay out of an adapter.
    """

    pipeline: DiffusionPipeline
    path: NoisePath
    """The noising process that the base was trained on. A method may change its timesteps or weights: a run uses
    `RunParts.noise_path`."""
    scheduler: SchedulerMixin
    """The solver that the family samples with unless told otherwise; `sample` works on copies of it."""
    sampler_change: SamplerChange | None = None
    """How `scheduler` differs from the base's own, for the code of a model card; None if it is the base's."""
    denoiser: nn.Module
    """The only trained module. `predict` is handed the policy or a reference and reads nothing but the config here."""
    component: Literal["unet", "transformer"] = "unet"
    """The denoiser's name in the pipeline, by which its LoRA files are saved and loaded."""
    xformers: bool = False
    """Whether xformers computes the denoiser's attention (see `set_attention`). diffusers swaps a plain form in for any
    model and drops the rest; xformers itself refuses masks of odd lengths, and queries that a norm left in float32
    under autocast. It is True for the families for which the contract has compared both."""
    guidance: Literal["cfg", "embedded", "none"]
    """Kind of guidance: classifier-free (cfg), by two forward passes; embedded, told to a distilled denoiser
    (`with_guidance`); or none."""
    lora_targets: LoraTargets = ATTENTION
    """Targets of a LoRA by scope. Every family has "all"; families with motion modules add "motion" and "spatial"."""
    lora_format: Literal["diffusers", "peft"] = "diffusers"
    """Layout of LoRA files: for the pipeline's `load_lora_weights`, or, if it has no such method, for
    `PeftModel.from_pretrained(denoiser, folder)`."""
    masked_text: Mapping[str, str] = MappingProxyType({})
    """Names of tensors of `encode_prompts` that the denoiser reads only as far as a mask says, each with its mask's
    name. A cache stores only that part of them and reads the rest back as zeros."""
    text_tokens: int | None = None
    """Tokens that captions are padded or cut to; None takes the tokenizer's limit."""
    trainable: Mapping[str, str] = MappingProxyType({"all": ".*"})
    """Parameters that full fine-tuning trains, by scope: a regular expression that matches names from their start."""

    def __init__(self, pipeline: DiffusionPipeline, path: NoisePath, *, packed: int = 1, variance: bool = False):
        """Takes over `pipeline`, whose denoiser learns along `path`, and freezes all but the denoiser.

        `packed` latents make a token of the denoiser; with `variance` it answers a learnt variance behind its
        prediction. Raises ValueError for a pipeline of this class that is not a text-to-image or text-to-video model.
        """
        self.pipeline = pipeline
        self.denoiser = pipeline.components[self.component]
        check_channels(pipeline.vae, self.denoiser, packed, variance)
        self.scheduler = pipeline.scheduler
        self.path = path
        freeze(pipeline, self.denoiser)

    @classmethod
    def load(cls, model: ModelConfig, dtype: torch.dtype) -> Self:
        """Loads the adapter of `model` with its weights in `dtype`. `load_pipeline` says which errors it raises."""
        return cls.configured(load_pipeline(model, dtype), model)

    @classmethod
    def configured(cls, pipeline: DiffusionPipeline, model: ModelConfig) -> Self:
        """Builds the adapter around `pipeline` with the options of `model`, if the family has any."""
        return cls(pipeline)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """Encodes `prompts` as the family's pipeline does; "" gives the unconditional condition.

        The default gives {"text": (b, tokens, d)} of one text encoder and cuts captions that are too long.
        """
        return {"text": encode_text(self.pipeline.tokenizer, self.pipeline.text_encoder, prompts, self.text_tokens)}

    def caption_shapes(self) -> Condition:
        """Returns empty tensors with the shapes and dtypes that `encode_prompts` gives for one caption.

        `plan` counts with them, without running a text encoder.
        """
        p = self.pipeline
        tokens = p.tokenizer.model_max_length if self.text_tokens is None else self.text_tokens
        shapes = {"text": torch.empty(1, tokens, p.text_encoder.config.hidden_size)}
        return shapes | {mask: torch.empty(1, tokens, dtype=torch.int64) for mask in self.masked_text.values()}

    def size_condition(self, framings: list[CropInfo]) -> Condition:
        """Returns what the denoiser is told of each item beside its caption (SDXL: size and crop); {} by default."""
        return {}

    def with_guidance(self, condition: Condition, guidance_scale: float) -> Condition:
        """Adds the guidance scale to `condition` if the denoiser has guidance embedded; called for sampling.

        In training, `predict` gets the condition without a scale, and such a family uses a value of its own.
        """
        return condition

    def guide(
        self, without: Float[Tensor, " b c *shape"], given: Float[Tensor, " b c *shape"], scale: float
    ) -> Float[Tensor, " b c *shape"]:
        """Combines the predictions `without` and `given` the caption into the guided one, by classifier-free guidance
        (arXiv 2207.12598, 2022)."""
        return without + scale * (given - without)

    def truncated(self, prompts: list[str]) -> list[int]:
        """Returns the positions of prompts that are longer than the text encoder's limit and are cut off."""
        return too_long(self.pipeline.tokenizer, prompts, self.text_tokens)

    @abstractmethod
    def encode(self, pixels: Float[Tensor, " b 3 *shape"]) -> Posterior:
        """Encodes pixels in [-1, 1] into the posterior of latents of unit variance, as the denoiser sees them."""

    @abstractmethod
    def decode(self, latents: Float[Tensor, " b c *shape"]) -> Float[Tensor, " b 3 *pixels"]:
        """Decodes latents into pixels in [-1, 1], which are not clamped."""

    @abstractmethod
    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        """Returns the shape (c, [f], h, w) of one item's latents.

        Raises ValueError, which names the nearest size that fits, if the size does not fit.
        """

    @abstractmethod
    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, " b c *shape"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, " b c *shape"]:
        """Runs one forward pass of `denoiser` (the policy, a reference, or either wrapped for several processes)."""

    def timesteps(self, scheduler: SchedulerMixin, steps: int, latent_shape: tuple[int, ...], device) -> Tensor:
        """Sets the scheduler's time grid and returns it, (steps,); families that shift it by resolution override."""
        scheduler.set_timesteps(steps, device=device)
        return scheduler.timesteps

    def load_lora(self, source: str, name: str) -> None:
        """Puts the LoRA of `source`, a folder, file or hub id, on the denoiser as peft's adapter `name`.

        ValueError, naming tensors, if some of it belongs to no layer of this base (see `lora_files`).
        """
        if self.lora_format == "peft":
            load_lora_folder(self.denoiser, source, name)
        else:
            load_lora_file(self.pipeline, self.component, source, name)

    def save_lora(self, folder: Path, state: dict[str, Tensor], config: LoraConfig) -> None:
        """Writes a LoRA of the denoiser, its tensors by portable name, in the family's `lora_format`.

        Alpha stands in the file's metadata, where diffusers (0.35 or newer) and peft read it. There are no `.alpha`
        tensors, for diffusers refuses a file that has them beside its own names. Programs that read tensors alone
        (ComfyUI, kohya's scripts) take the strength 1 for alpha / rank.
        """
        if self.lora_format == "peft":
            save_lora_folder(folder, state, config)
            return
        # without this metadata a loader takes alpha for the rank, and the LoRA acts at another strength
        self.pipeline.save_lora_weights(
            folder,
            **{f"{self.component}_lora_layers": state},
            **{f"{self.component}_lora_adapter_metadata": config.to_dict()},
        )

    def export_components(self) -> dict[str, Any]:
        """The components of the exported pipeline, the current denoiser among them."""
        return self.pipeline.components | {
            self.component: self.denoiser,
            "scheduler": type(self.scheduler).from_config(self.scheduler.config),
        }

    def export_pipeline(self) -> DiffusionPipeline:
        """A plain diffusers pipeline around the current denoiser, whose `save_pretrained` anyone can load.

        It shares the weights; the VAE may be float32 beside a half-precision denoiser.
        """
        components, kind = self.export_components(), type(self.pipeline)
        # what the pipeline was told beside its components
        options = {name: value for name, value in self.pipeline.config.items() if name in signature(kind).parameters}
        return kind(**options | components)

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    @property
    def vae_device(self) -> torch.device:
        """Device of `encode` and `decode`; the denoiser may be on another, and has no memory at all in `prepare`."""
        return self.pipeline.vae.device
