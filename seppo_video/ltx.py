"""LTX-Video: a rectified flow over few tokens of 32 × 32 pixels and 8 frames each (arXiv 2501.00103, 2024)."""

import numpy as np
import torch
from diffusers import LTXPipeline
from diffusers.schedulers import SchedulerMixin
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.latents import MASKED_TEXT, Condition
from seppo_core.models.noise_path import FlowNoisePath
from seppo_core.models.sampling import dynamic_shift
from seppo_core.models.text import tokenize
from seppo_core.models.video_adapter import Strides, VideoAdapter
from seppo_core.models.video_vae import Scaling, decode_clips
from seppo_video.families.ltx import LTXModel


class LTX(VideoAdapter):
    """A view of an `LTXPipeline`; its transformer is the denoiser, its VAE and text encoder are frozen.

    `fps` tells the denoiser how far apart frames are in time: what the winners' frames were taken at. `text_tokens` is
    the length of captions.
    """

    pipeline: LTXPipeline
    guidance = "cfg"
    masked_text = MASKED_TEXT

    def __init__(self, pipeline: LTXPipeline, text_tokens: int = LTXModel.text_tokens, fps: float = LTXModel.fps):
        vae, transformer = pipeline.vae, pipeline.transformer
        # a token is a patch of latents, of one latent in all published models
        self.patch = {"pt": transformer.config.patch_size_t, "p": transformer.config.patch_size}
        super().__init__(
            pipeline,
            FlowNoisePath(),
            Scaling.per_channel(vae.latents_mean, vae.latents_std, vae.config.scaling_factor),
            Strides(pipeline.vae_spatial_compression_ratio, pipeline.vae_temporal_compression_ratio, self.patch["p"]),
            packed=self.patch["pt"] * self.patch["p"] ** 2,
        )
        self.text_tokens = text_tokens
        self.fps = fps

    @classmethod
    def configured(cls, pipeline: LTXPipeline, model: LTXModel) -> "LTX":
        return cls(pipeline, model.text_tokens, model.fps)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, text_tokens, d), "mask": (b, text_tokens)}: the denoiser does not look at the padding."""
        p = self.pipeline
        ids, mask = tokenize(p.tokenizer, prompts, self.text_tokens)
        device = p.text_encoder.device
        # the text encoder does look at it, as it did when the denoiser was trained
        return {"text": p.text_encoder(ids.to(device))[0], "mask": mask.bool().to(device)}

    def caption_shapes(self) -> Condition:
        shapes = super().caption_shapes()
        return shapes | {"mask": shapes["mask"].bool()}

    def decode(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b 3 F H W"]:
        """A decoder that could remove noise of its own (0.9.1 and later) is told that there is none."""
        vae = self.pipeline.vae
        told = [torch.zeros(1, device=vae.device, dtype=vae.dtype)] if vae.config.timestep_conditioning else []
        return decode_clips(vae, latents, self.scaling, *told)

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c f h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c f h w"]:
        dtype = next(denoiser.parameters()).dtype
        space, time, _ = self.strides
        grid = {"f": x_t.shape[2] // self.patch["pt"], "h": x_t.shape[3] // self.patch["p"]}
        tokens = denoiser(
            hidden_states=rearrange(
                x_t.to(dtype), "b c (f pt) (h p) (w q) -> b (f h w) (c pt p q)", q=self.patch["p"], **self.patch
            ),
            encoder_hidden_states=condition["text"].to(dtype),
            timestep=t,
            encoder_attention_mask=condition["mask"],
            num_frames=grid["f"],
            height=grid["h"],
            width=x_t.shape[4] // self.patch["p"],
            # seconds and pixels between two tokens
            rope_interpolation_scale=(time / self.fps, space, space),
            return_dict=False,
        )[0]
        return rearrange(
            tokens, "b (f h w) (c pt p q) -> b c (f pt) (h p) (w q)", q=self.patch["p"], **self.patch, **grid
        )

    def timesteps(self, scheduler: SchedulerMixin, steps: int, latent_shape: tuple[int, ...], device) -> Tensor:
        """Evenly spaced σ, shifted towards noise by the number of latents if the scheduler asks for it.

        ValueError for one step that is to end at a given σ (`shift_terminal`): it is the first and the last.
        """
        terminal = scheduler.config.get("shift_terminal")
        if steps < 2 and terminal:
            raise ValueError(
                f"steps={steps} does not go with the scheduler's shift_terminal={terminal}, where the last of "
                "several steps stands; draw with 2 steps or more"
            )
        latents = latent_shape[-3] * latent_shape[-2] * latent_shape[-1]
        scheduler.set_timesteps(
            # the scheduler's own grid would begin elsewhere
            sigmas=np.linspace(1, 1 / steps, steps),
            device=device,
            mu=dynamic_shift(scheduler.config, latents),
        )
        return scheduler.timesteps
