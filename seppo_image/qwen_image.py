"""Qwen-Image: a rectified flow of 20 billion weights that reads captions with Qwen2.5-VL (arXiv 2508.02324, 2025)."""

import numpy as np
import torch
from diffusers import QwenImagePipeline
from diffusers.schedulers import SchedulerMixin
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.adapter import JOINT_ATTENTION
from seppo_core.models.image_adapter import ImageAdapter
from seppo_core.models.latents import MASKED_TEXT, Condition, Posterior
from seppo_core.models.noise_path import FlowNoisePath
from seppo_core.models.sampling import dynamic_shift
from seppo_core.models.text import tokenize, too_long
from seppo_core.models.video_vae import Scaling, decode_clips, encode_clips
from seppo_image.families.qwen_image import QwenImageModel
from seppo_image.flux import pack, unpack


class QwenImage(ImageAdapter):
    """A view of a `QwenImagePipeline`; its transformer is the denoiser, its VAE and language model are frozen.

    The VAE is one of clips: a picture is a clip of one frame to it. `text_tokens` is the length of captions, the
    instruction before them not counted.
    """

    pipeline: QwenImagePipeline
    component = "transformer"
    guidance = "cfg"
    masked_text = MASKED_TEXT

    def __init__(self, pipeline: QwenImagePipeline, text_tokens: int = QwenImageModel.text_tokens):
        if pipeline.transformer.config.guidance_embeds:
            raise ValueError("the transformer has guidance embedded, which diffusers cannot run yet; use Qwen-Image")
        pipeline.tokenizer.padding_side = "right"
        super().__init__(pipeline, FlowNoisePath(), packed=4)
        vae = pipeline.vae.config
        self.scaling = Scaling.per_channel(vae.latents_mean, vae.latents_std)
        self.text_tokens = text_tokens
        # the last block's answer about the text is dropped: what leads to nothing else would never learn
        last = pipeline.transformer.config.num_layers - 1
        reached = rf"(?!transformer_blocks\.{last}\.(attn\.(add_q_proj|norm_added_q|to_add_out)|txt_mlp)(\.|$))"
        self.trainable = {"all": reached}
        self.lora_targets = {"all": rf"{reached}.*\.({'|'.join(JOINT_ATTENTION['all'])})"}

    @classmethod
    def configured(cls, pipeline: QwenImagePipeline, model: QwenImageModel) -> "QwenImage":
        return cls(pipeline, model.text_tokens)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, text_tokens, d), "mask": (b, text_tokens)}: the last layer after the instruction, then zeros."""
        p = self.pipeline
        lead = p.prompt_template_encode_start_idx
        ids, mask = tokenize(p.tokenizer, self._instructed(prompts), lead + self.text_tokens)
        ids, mask = ids.to(p.text_encoder.device), mask.to(p.text_encoder.device)
        # without the head, whose answer would be a hundred thousand numbers for each token
        text = p.text_encoder.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return {"text": text.masked_fill(mask[..., None] == 0, 0)[:, lead:], "mask": mask[:, lead:]}

    def caption_shapes(self) -> Condition:
        width = self.pipeline.text_encoder.config.text_config.hidden_size
        return {
            "text": torch.empty(1, self.text_tokens, width),
            "mask": torch.empty(1, self.text_tokens, dtype=torch.int64),
        }

    def truncated(self, prompts: list[str]) -> list[int]:
        length = self.pipeline.prompt_template_encode_start_idx + self.text_tokens
        return too_long(self.pipeline.tokenizer, self._instructed(prompts), length)

    def _instructed(self, prompts: list[str]) -> list[str]:
        """What the language model reads, the empty prompt's too."""
        return [self.pipeline.prompt_template_encode.format(prompt) for prompt in prompts]

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Posterior:
        return Posterior(*(x.squeeze(2) for x in encode_clips(self.pipeline.vae, pixels.unsqueeze(2), self.scaling)))

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        # the pipeline decodes pictures whole, and the seams of tiles would differ
        return decode_clips(self.pipeline.vae, latents.unsqueeze(2), self.scaling, tiled=False).squeeze(2)

    def guide(
        self, without: Float[Tensor, "b c h w"], given: Float[Tensor, "b c h w"], scale: float
    ) -> Float[Tensor, "b c h w"]:
        """Classifier-free guidance, every token of it brought to the length of the one `given` the caption."""
        guided = pack(super().guide(without, given, scale))
        length = pack(given).norm(dim=-1, keepdim=True)
        return unpack(guided * (length / guided.norm(dim=-1, keepdim=True)), given.shape[-2] // 2)

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        dtype = next(denoiser.parameters()).dtype
        rows, columns = x_t.shape[-2] // 2, x_t.shape[-1] // 2
        prediction = denoiser(
            hidden_states=pack(x_t.to(dtype)),
            timestep=t / 1000,
            encoder_hidden_states=condition["text"].to(dtype),
            encoder_hidden_states_mask=condition["mask"],
            img_shapes=[[(1, rows, columns)]] * len(x_t),
            return_dict=False,
        )[0]
        return unpack(prediction, rows)

    def timesteps(self, scheduler: SchedulerMixin, steps: int, latent_shape: tuple[int, ...], device) -> Tensor:
        """Evenly spaced σ, shifted towards noise by the number of tokens."""
        tokens = (latent_shape[-2] // 2) * (latent_shape[-1] // 2)
        scheduler.set_timesteps(
            sigmas=np.linspace(1, 1 / steps, steps), device=device, mu=dynamic_shift(scheduler.config, tokens)
        )
        return scheduler.timesteps
