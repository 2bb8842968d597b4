"""Sana: a rectified flow with linear attention over 32 × 32 pixels per latent (arXiv 2410.10629, 2024)."""

from inspect import signature

import torch
from diffusers import SanaPipeline
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.image_adapter import ImageAdapter
from seppo_core.models.latents import MASKED_TEXT, Condition, Posterior
from seppo_core.models.noise_path import FlowNoisePath
from seppo_core.models.text import tokenize, too_long
from seppo_image.families.sana import SanaModel

INSTRUCTION = "\n".join(signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default)
"""Instruction that the pipeline puts before each caption for the language model, except before the empty one."""
NO_SPREAD = -60.0
"""Log-variance of latents that the autoencoder knows exactly: finite, and nothing beside any mean."""


class Sana(ImageAdapter):
    """A view of a `SanaPipeline`; its transformer is the denoiser, its autoencoder and language model are frozen."""

    pipeline: SanaPipeline
    component = "transformer"
    guidance = "cfg"
    masked_text = MASKED_TEXT

    def __init__(self, pipeline: SanaPipeline, text_tokens: int = SanaModel.text_tokens):
        if pipeline.transformer.config.guidance_embeds:
            raise ValueError("the transformer is distilled with embedded guidance (Sprint); use the base it came from")
        pipeline.tokenizer.padding_side = "right"
        super().__init__(pipeline, FlowNoisePath())
        self.text_tokens = text_tokens

    @classmethod
    def configured(cls, pipeline: SanaPipeline, model: SanaModel) -> "Sana":
        return cls(pipeline, model.text_tokens)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, text_tokens, d), "mask": (b, text_tokens)}: the first token, and the last of what follows it."""
        p = self.pipeline
        lead = len(p.tokenizer(INSTRUCTION, verbose=False).input_ids)
        chosen = [0, *range(1 - self.text_tokens, 0)]
        texts, masks = [], []
        # one by one, for with the instruction the empty prompt and the others have different lengths
        for prompt in prompts:
            caption = prompt.lower().strip()
            if caption:
                ids, mask = tokenize(p.tokenizer, [INSTRUCTION + caption], lead + self.text_tokens - 2)
            else:
                ids, mask = tokenize(p.tokenizer, [""], self.text_tokens)
            ids, mask = ids.to(p.text_encoder.device), mask.to(p.text_encoder.device)
            texts.append(p.text_encoder(ids, attention_mask=mask)[0][:, chosen])
            masks.append(mask[:, chosen])
        return {"text": torch.cat(texts), "mask": torch.cat(masks)}

    def truncated(self, prompts: list[str]) -> list[int]:
        """Returns the positions of prompts that do not fit beside the instruction."""
        return too_long(self.pipeline.tokenizer, [prompt.lower().strip() for prompt in prompts], self.text_tokens)

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Posterior:
        """The latents themselves as the mean, for this autoencoder draws nothing."""
        vae = self.pipeline.vae
        with torch.autocast(vae.device.type, enabled=False):
            latents = [vae.encode(part.to(vae.device, vae.dtype)).latent.float() for part in pixels.split(16)]
        mean = torch.cat(latents) * vae.config.scaling_factor
        return Posterior(mean, torch.full_like(mean, NO_SPREAD))

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        dtype = next(denoiser.parameters()).dtype
        return denoiser(
            hidden_states=x_t.to(dtype),
            encoder_hidden_states=condition["text"].to(dtype),
            encoder_attention_mask=condition["mask"],
            timestep=t * self.denoiser.config.timestep_scale,
            return_dict=False,
        )[0]
