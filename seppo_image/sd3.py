"""Stable Diffusion 3 and 3.5: a rectified flow with a two-stream transformer (arXiv 2403.03206, 2024)."""

import torch
from diffusers import StableDiffusion3Pipeline
from diffusers.schedulers import SchedulerMixin
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn.functional import pad

from seppo_core.models.adapter import JOINT_ATTENTION
from seppo_core.models.image_adapter import ImageAdapter
from seppo_core.models.latents import Condition
from seppo_core.models.noise_path import FlowNoisePath
from seppo_core.models.sampling import dynamic_shift
from seppo_core.models.text import encode_clip, encode_text, too_long
from seppo_image.families.sd3 import StableDiffusion3Model


class StableDiffusion3(ImageAdapter):
    """A view of a `StableDiffusion3Pipeline`; its transformer is the denoiser, VAE and text encoders are frozen.

    `text_tokens` is the length that captions have for T5. A pipeline without T5 gets zeros in its place, as the model
    was trained to bear.
    """

    pipeline: StableDiffusion3Pipeline
    component = "transformer"
    guidance = "cfg"

    def __init__(self, pipeline: StableDiffusion3Pipeline, text_tokens: int = StableDiffusion3Model.text_tokens):
        super().__init__(pipeline, FlowNoisePath())
        self.text_tokens = text_tokens
        # the last block's answer about the text is dropped, so that a LoRA on its query would never learn
        last = pipeline.transformer.config.num_layers - 1
        self.lora_targets = {
            "all": rf"transformer_blocks\.(?!{last}\.attn\.add_q_proj).*\.({'|'.join(JOINT_ATTENTION['all'])})"
        }

    @classmethod
    def configured(cls, pipeline: StableDiffusion3Pipeline, model: StableDiffusion3Model) -> "StableDiffusion3":
        return cls(pipeline, model.text_tokens)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, CLIP's tokens + text_tokens, d), "pooled": (b, p)}."""
        p = self.pipeline
        first, first_pooled = encode_clip(p.tokenizer, p.text_encoder, prompts)
        second, second_pooled = encode_clip(
            p.tokenizer_2, p.text_encoder_2, prompts, length=p.tokenizer.model_max_length
        )
        clip = torch.cat([first, second], dim=-1)
        width = self.denoiser.config.joint_attention_dim
        if p.text_encoder_3 is None:
            t5 = clip.new_zeros(len(prompts), self.text_tokens, width)
        else:
            t5 = encode_text(p.tokenizer_3, p.text_encoder_3, prompts, length=self.text_tokens).to(clip)
        text = torch.cat([pad(clip, (0, width - clip.shape[-1])), t5], dim=1)
        return {"text": text, "pooled": torch.cat([first_pooled, second_pooled], dim=-1)}

    def caption_shapes(self) -> Condition:
        p = self.pipeline
        tokens = p.tokenizer.model_max_length + self.text_tokens
        return {
            "text": torch.empty(1, tokens, self.denoiser.config.joint_attention_dim),
            "pooled": torch.empty(1, p.text_encoder.config.projection_dim + p.text_encoder_2.config.projection_dim),
        }

    def truncated(self, prompts: list[str]) -> list[int]:
        """Positions of the prompts that not even the text encoder with the longest limit sees whole."""
        if self.pipeline.text_encoder_3 is None:
            return too_long(self.pipeline.tokenizer, prompts)
        return too_long(self.pipeline.tokenizer_3, prompts, self.text_tokens)

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        dtype = next(denoiser.parameters()).dtype
        return denoiser(
            hidden_states=x_t.to(dtype),
            timestep=t,
            encoder_hidden_states=condition["text"].to(dtype),
            pooled_projections=condition["pooled"].to(dtype),
            return_dict=False,
        )[0]

    def timesteps(self, scheduler: SchedulerMixin, steps: int, latent_shape: tuple[int, ...], device) -> Tensor:
        if not scheduler.config.use_dynamic_shifting:
            return super().timesteps(scheduler, steps, latent_shape, device)
        height, width = (size // self.denoiser.config.patch_size for size in latent_shape[-2:])
        scheduler.set_timesteps(steps, device=device, mu=dynamic_shift(scheduler.config, height * width, 1.16))
        return scheduler.timesteps
