"""HunyuanVideo: a rectified flow of 13 billion weights, its guidance distilled into them (arXiv 2412.03603, 2024)."""

import numpy as np
import torch
from diffusers import HunyuanVideoPipeline
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from diffusers.schedulers import SchedulerMixin
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.adapter import JOINT_ATTENTION
from seppo_core.models.latents import MASKED_TEXT, Condition
from seppo_core.models.noise_path import FlowNoisePath
from seppo_core.models.text import tokenize, too_long
from seppo_core.models.video_adapter import Strides, VideoAdapter
from seppo_core.models.video_vae import Scaling
from seppo_video.families.hunyuan import HunyuanVideoModel

CLIP_TOKENS = 77
LAYER = -3
"""Index of the language model's layer that captions are taken from."""


class HunyuanVideo(VideoAdapter):
    """A view of a `HunyuanVideoPipeline`; its transformer is the denoiser, VAE and text encoders are frozen.

    Sampling tells the transformer the sampler's guidance scale and training `training_guidance`. `text_tokens` is the
    length of captions for the language model, its instruction not counted.
    """

    pipeline: HunyuanVideoPipeline
    guidance = "embedded"
    masked_text = MASKED_TEXT
    lora_targets = JOINT_ATTENTION

    def __init__(
        self,
        pipeline: HunyuanVideoPipeline,
        text_tokens: int = HunyuanVideoModel.text_tokens,
        training_guidance: float = HunyuanVideoModel.training_guidance,
    ):
        if not pipeline.transformer.config.guidance_embeds:
            raise ValueError("the transformer has no guidance embedded; use a text-to-video base of HunyuanVideo 1.0")
        super().__init__(
            pipeline,
            FlowNoisePath(),
            Scaling.uniform(pipeline.vae.config.scaling_factor),
            Strides(
                pipeline.vae_scale_factor_spatial,
                pipeline.vae_scale_factor_temporal,
                pipeline.transformer.config.patch_size,
            ),
        )
        self.text_tokens = text_tokens
        self.training_guidance = training_guidance

    @classmethod
    def configured(cls, pipeline: HunyuanVideoPipeline, model: HunyuanVideoModel) -> "HunyuanVideo":
        return cls(pipeline, model.text_tokens, model.training_guidance)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, text_tokens, d), "mask": (b, text_tokens)} of the language model, "pooled": (b, p) of CLIP."""
        p = self.pipeline
        lead = DEFAULT_PROMPT_TEMPLATE["crop_start"]
        device = p.text_encoder.device
        ids, mask = (x.to(device) for x in tokenize(p.tokenizer, _instructed(prompts), lead + self.text_tokens))
        layers = p.text_encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        clip_ids, _ = tokenize(p.tokenizer_2, prompts, CLIP_TOKENS)
        pooled = p.text_encoder_2(clip_ids.to(p.text_encoder_2.device)).pooler_output
        return {"text": layers[LAYER][:, lead:], "mask": mask[:, lead:], "pooled": pooled}

    def caption_shapes(self) -> Condition:
        return super().caption_shapes() | {"pooled": torch.empty(1, self.pipeline.text_encoder_2.config.hidden_size)}

    def with_guidance(self, condition: Condition, guidance_scale: float) -> Condition:
        """Adds "guidance", (b,)."""
        text = condition["text"]
        return condition | {"guidance": torch.full((len(text),), float(guidance_scale), device=text.device)}

    def truncated(self, prompts: list[str]) -> list[int]:
        """Returns the positions of prompts that the language model cuts off; CLIP contributes only a summary."""
        length = DEFAULT_PROMPT_TEMPLATE["crop_start"] + self.text_tokens
        return too_long(self.pipeline.tokenizer, _instructed(prompts), length)

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c f h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c f h w"]:
        """Uses `training_guidance` if the condition has no "guidance", which sampling adds."""
        dtype = next(denoiser.parameters()).dtype
        if "guidance" not in condition:
            condition = self.with_guidance(condition, self.training_guidance)
        return denoiser(
            hidden_states=x_t.to(dtype),
            timestep=t,
            encoder_hidden_states=condition["text"].to(dtype),
            encoder_attention_mask=condition["mask"].to(dtype),
            pooled_projections=condition["pooled"].to(dtype),
            guidance=condition["guidance"].to(dtype) * 1000,
            return_dict=False,
        )[0]

    def timesteps(self, scheduler: SchedulerMixin, steps: int, latent_shape: tuple[int, ...], device) -> Tensor:
        """Evenly spaced σ, which the scheduler shifts by its constant; its own grid would end elsewhere."""
        scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:-1], device=device)
        return scheduler.timesteps


def _instructed(prompts: list[str]) -> list[str]:
    """Puts every prompt, the empty one too, into the language model's instruction."""
    return [DEFAULT_PROMPT_TEMPLATE["template"].format(prompt) for prompt in prompts]
