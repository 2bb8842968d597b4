"""One row of the contract: a tiny pipeline, the adapter around it, and how plain diffusers runs the same."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline
from peft import PeftModel
from torch import Generator, Tensor

from seppo_core.config.model import ModelConfig
from seppo_core.io.lazy import import_object
from seppo_core.models.adapter import Adapter
from seppo_core.models.latents import Condition
from seppo_core.models.noise_path import FlowNoisePath
from tests.contract.mistakes import AdapterMistake, Mistake
from tests.tiny import T5_TOKENS

Encoded = tuple[Condition, Condition]
"""Conditions of some prompts, and the unconditional ones."""
T5_CALL = {"max_sequence_length": T5_TOKENS}


def encode_one(pipeline: DiffusionPipeline, prompts: list[str]) -> Encoded:
    text, empty = pipeline.encode_prompt(prompts, "cpu", 1, True)
    return {"text": text}, {"text": empty}


def encode_pair(pipeline: DiffusionPipeline, prompts: list[str]) -> Encoded:
    """As the pipelines on SDXL's two CLIPs do."""
    text, empty, pooled, empty_pooled = pipeline.encode_prompt(prompts, device="cpu")
    return {"text": text, "pooled": pooled}, {"text": empty, "pooled": empty_pooled}


def encode_t5(pipeline: DiffusionPipeline, prompts: list[str]) -> Encoded:
    text, empty = pipeline.encode_prompt(prompts, max_sequence_length=T5_TOKENS)
    return {"text": text}, {"text": empty}


def encode_masked(pipeline: DiffusionPipeline, prompts: list[str]) -> Encoded:
    text, mask, empty, empty_mask = pipeline.encode_prompt(prompts, max_sequence_length=T5_TOKENS)
    return {"text": text, "mask": mask}, {"text": empty, "mask": empty_mask}


def scaling_of_config(pipeline: DiffusionPipeline) -> tuple[Tensor, Tensor]:
    config = pipeline.vae.config
    return torch.tensor(config.get("shift_factor") or 0.0), torch.tensor(config.scaling_factor)


def guided_by_scale(prompts: list[str], scale: float) -> dict:
    return {"guidance_scale": scale}


def unchanged(latents: Tensor, latent_shape: tuple[int, ...] = ()) -> Tensor:
    return latents.clone()


@dataclass(frozen=True)
class Family:
    """One family, or one variant of it. `pipeline` builds a fresh one with the same weights each time, from a folder
    for its tokenizer."""

    name: str
    model: ModelConfig
    """The family's record, with options that suit the tiny pipeline."""
    latent_shape: tuple[int, ...]
    pipeline: Callable[[Path], DiffusionPipeline]
    load_options: dict = field(default_factory=dict)
    """What `from_pretrained` has to be told to load the pipeline as it is."""
    encode: Callable[[DiffusionPipeline, list[str]], Encoded] = encode_one
    """What the pipeline itself makes of prompts."""
    call: dict = field(default_factory=dict)
    """What the pipeline has to be told beside prompts, size, steps and guidance."""
    guided: Callable[[list[str], float], dict] = guided_by_scale
    """How the pipeline is told of prompts' guidance, whose missing caption is ""."""
    pack: Callable[[Tensor], Tensor] = unchanged
    """Our latents as the pipeline takes them."""
    unpack: Callable[[Tensor, tuple[int, ...]], Tensor] = unchanged
    """The pipeline's answer as our latents."""
    multiple: int = 8
    """Heights and widths have to be multiples of this."""
    factor: int = 8
    """Pixels per latent, along a side."""
    frames: int = 1
    """Frames of a clip with these latents."""
    whole_clips: bool = False
    """Whether the VAE takes a clip at once, not frame by frame."""
    repeated: int = 0
    """Latent frames at the clip's beginning that are there again: the VAE does not know them."""
    frames_rule: str = "use 1"
    """A regular expression for what the refusal of 0 and of 1000 frames names."""
    scaling: Callable[[DiffusionPipeline], tuple[Tensor, Tensor]] = scaling_of_config
    """Shift and scale of the VAE's latents: theirs are (z − shift) · scale."""
    unreached: str = ""
    """A regular expression for the beginnings of parameters that cannot influence the answer."""
    mistakes: dict[str, Mistake] = field(default_factory=dict)
    """Mistakes that a `predict` of this family could make; each has to break parity."""
    adapter_mistakes: tuple[AdapterMistake, ...] = ()
    """Mistakes outside `predict`, made on a whole adapter; each has to break parity."""

    @property
    def adapter_class(self) -> type[Adapter]:
        return import_object(self.model.spec.adapter)

    def wrap(self, pipeline: DiffusionPipeline) -> Adapter:
        return self.adapter_class.configured(pipeline, self.model)

    def adapter(self, folder: Path) -> Adapter:
        return self.wrap(self.pipeline(folder))

    def load_plain(self, folder: Path) -> DiffusionPipeline:
        return getattr(diffusers, self.model.spec.pipeline).from_pretrained(folder, **self.load_options)

    def load_lora(self, pipeline: DiffusionPipeline, folder: Path) -> None:
        """Puts an exported LoRA on a plain pipeline, as diffusers documents it."""
        if self.adapter_class.lora_format == "peft":
            pipeline.transformer = PeftModel.from_pretrained(pipeline.transformer, folder)
        else:
            pipeline.load_lora_weights(folder)

    @property
    def is_video(self) -> bool:
        return len(self.latent_shape) == 4

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.latent_shape[-2] * self.factor, self.latent_shape[-1] * self.factor

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
        size = dict(zip(("height", "width"), self.size, strict=True))
        frames = {"num_frames": self.frames} if self.is_video else {}
        pipeline.set_progress_bar_config(disable=True)
        latents = pipeline(
            prompts, latents=self.pack(noise), num_inference_steps=steps, output_type="latent", generator=generators,
            **self.guided(prompts, guidance_scale), **size, **frames, **self.call,
        )[0]  # fmt: skip
        return self.unpack(latents, self.latent_shape)


def is_flow(adapter: Adapter) -> bool:
    return isinstance(adapter.path, FlowNoisePath)
