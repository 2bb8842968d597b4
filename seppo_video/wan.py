"""Wan 2.1: a rectified flow over clips, 1.3 or 14 billion weights; text to video (arXiv 2503.20314, 2025)."""

import torch
from diffusers import WanPipeline
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.adapter import SamplerChange
from seppo_core.models.latents import Condition
from seppo_core.models.noise_path import FlowNoisePath
from seppo_core.models.text import tokenize, too_long
from seppo_core.models.video_adapter import Strides, VideoAdapter
from seppo_core.models.video_vae import Scaling
from seppo_video.families.wan import WanModel


class Wan(VideoAdapter):
    """A view of a `WanPipeline`; its transformer is the denoiser, its VAE and text encoder are frozen.

    `text_tokens` is the length of captions, `flow_shift` moves the sampler's time grid towards noise: 3 suits 480p,
    5 suits 720p, and None leaves what the base says.
    """

    pipeline: WanPipeline
    guidance = "cfg"

    def __init__(self, pipeline: WanPipeline, text_tokens: int = WanModel.text_tokens, flow_shift: float | None = None):
        _refuse(pipeline)
        if flow_shift is not None:
            # UniPC and FlowMatch name it differently
            key = "flow_shift" if "flow_shift" in pipeline.scheduler.config else "shift"
            self.sampler_change = SamplerChange(type(pipeline.scheduler), {key: flow_shift})
            pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **{key: flow_shift})
        vae = pipeline.vae.config
        super().__init__(
            pipeline,
            FlowNoisePath(),
            Scaling.per_channel(vae.latents_mean, vae.latents_std),
            Strides(
                pipeline.vae_scale_factor_spatial,
                pipeline.vae_scale_factor_temporal,
                pipeline.transformer.config.patch_size[-1],
            ),
        )
        self.text_tokens = text_tokens

    @classmethod
    def configured(cls, pipeline: WanPipeline, model: WanModel) -> "Wan":
        return cls(pipeline, model.text_tokens, model.flow_shift)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, text_tokens, d)}, zero after a caption's last token."""
        p = self.pipeline
        ids, mask = tokenize(p.tokenizer, [prompt_clean(prompt) for prompt in prompts], self.text_tokens)
        ids, mask = ids.to(p.text_encoder.device), mask.to(p.text_encoder.device)
        text = p.text_encoder(ids, attention_mask=mask).last_hidden_state
        return {"text": text.masked_fill(mask[..., None] == 0, 0)}

    def truncated(self, prompts: list[str]) -> list[int]:
        return too_long(self.pipeline.tokenizer, [prompt_clean(prompt) for prompt in prompts], self.text_tokens)

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c f h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c f h w"]:
        # a half-precision base keeps its norms and tables, the first of its weights, in float32; the last says more
        *_, last = denoiser.parameters()
        return denoiser(
            hidden_states=x_t.to(last.dtype),
            timestep=t,
            encoder_hidden_states=condition["text"].to(last.dtype),
            return_dict=False,
        )[0]


def _refuse(pipeline: WanPipeline) -> None:
    """ValueError for what loads as this pipeline class but trains or samples differently."""
    if pipeline.transformer_2 is not None or pipeline.config.boundary_ratio is not None:
        raise ValueError("Wan 2.2 with two transformers, one for each half of the timesteps, is not supported; use 2.1")
    if pipeline.config.expand_timesteps:
        raise ValueError("Wan 2.2 with a timestep for every token (TI2V) is not supported; use 2.1")
