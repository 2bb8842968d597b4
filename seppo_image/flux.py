"""Flux.1 dev and schnell: a rectified flow over tokens of 2 × 2 latents, its guidance distilled into the denoiser."""

import numpy as np
import torch
from diffusers import FluxPipeline
from diffusers.schedulers import SchedulerMixin
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.adapter import JOINT_ATTENTION
from seppo_core.models.image_adapter import ImageAdapter
from seppo_core.models.latents import Condition
from seppo_core.models.noise_path import FlowNoisePath
from seppo_core.models.sampling import dynamic_shift
from seppo_core.models.text import encode_text, tokenize, too_long
from seppo_image.families.flux import FluxModel


class Flux(ImageAdapter):
    """A view of a `FluxPipeline`; its transformer is the denoiser, its VAE and two text encoders are frozen.

    If the transformer has guidance embedded (dev), sampling tells it the sampler's scale and training tells it
    `training_guidance`. `text_tokens` is the length that captions have for T5.
    """

    pipeline: FluxPipeline
    component = "transformer"
    lora_targets = JOINT_ATTENTION
    patch = 2

    def __init__(
        self,
        pipeline: FluxPipeline,
        text_tokens: int = FluxModel.text_tokens,
        training_guidance: float = FluxModel.training_guidance,
    ):
        super().__init__(pipeline, FlowNoisePath(), packed=4)
        self.text_tokens = text_tokens
        self.training_guidance = training_guidance
        self.guidance = "embedded" if pipeline.transformer.config.guidance_embeds else "none"

    @classmethod
    def configured(cls, pipeline: FluxPipeline, model: FluxModel) -> "Flux":
        return cls(pipeline, model.text_tokens, model.training_guidance)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, text_tokens, d) of T5, "pooled": (b, p) of CLIP}."""
        p = self.pipeline
        ids, _ = tokenize(p.tokenizer, prompts)
        pooled = p.text_encoder(ids.to(p.text_encoder.device)).pooler_output
        return {"text": encode_text(p.tokenizer_2, p.text_encoder_2, prompts, self.text_tokens), "pooled": pooled}

    def caption_shapes(self) -> Condition:
        p = self.pipeline
        return {
            "text": torch.empty(1, self.text_tokens, p.text_encoder_2.config.hidden_size),
            "pooled": torch.empty(1, p.text_encoder.config.hidden_size),
        }

    def with_guidance(self, condition: Condition, guidance_scale: float) -> Condition:
        """Adds "guidance", (b,), if the denoiser has it embedded."""
        if self.guidance == "none":
            return condition
        text = condition["text"]
        return condition | {"guidance": torch.full((len(text),), float(guidance_scale), device=text.device)}

    def truncated(self, prompts: list[str]) -> list[int]:
        """Returns the positions of prompts that T5 cuts off; CLIP contributes only a summary of a caption."""
        return too_long(self.pipeline.tokenizer_2, prompts, self.text_tokens)

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """Uses `training_guidance` if the condition has no "guidance", which sampling adds."""
        dtype = next(denoiser.parameters()).dtype
        if "guidance" not in condition:
            condition = self.with_guidance(condition, self.training_guidance)
        text = condition["text"].to(dtype)
        prediction = denoiser(
            hidden_states=pack(x_t.to(dtype)),
            timestep=t / 1000,
            guidance=condition["guidance"] if self.guidance == "embedded" else None,
            pooled_projections=condition["pooled"].to(dtype),
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=x_t.device),
            img_ids=image_ids(x_t.shape[-2] // 2, x_t.shape[-1] // 2, x_t.device),
            return_dict=False,
        )[0]
        return unpack(prediction, x_t.shape[-2] // 2)

    def timesteps(self, scheduler: SchedulerMixin, steps: int, latent_shape: tuple[int, ...], device) -> Tensor:
        """Evenly spaced σ, shifted towards noise by the number of tokens if the scheduler asks for it (dev)."""
        tokens = (latent_shape[-2] // 2) * (latent_shape[-1] // 2)
        scheduler.set_timesteps(
            # the scheduler's own grid would begin elsewhere
            sigmas=np.linspace(1, 1 / steps, steps),
            device=device,
            mu=dynamic_shift(scheduler.config, tokens),
        )
        return scheduler.timesteps


def pack(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b tokens c*4"]:
    """A token for every square of 2 × 2 latents, rows first; channel, then row, then column within a token."""
    return rearrange(latents, "b c (h i) (w j) -> b (h w) (c i j)", i=2, j=2)


def unpack(tokens: Float[Tensor, "b tokens c*4"], rows: int) -> Float[Tensor, "b c h w"]:
    """The inverse of `pack` for a picture of `rows` rows of tokens."""
    return rearrange(tokens, "b (h w) (c i j) -> b c (h i) (w j)", h=rows, i=2, j=2)


def image_ids(rows: int, columns: int, device: torch.device) -> Float[Tensor, "tokens 3"]:
    """Positions of the tokens for the rotary embedding: 0, the row and the column."""
    row, column = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).flatten(0, 1).float()
