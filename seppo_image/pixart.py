"""PixArt-Σ: a diffusion transformer with T5 and up to 4K pixels a side (arXiv 2403.04692, 2024)."""

import torch
from diffusers import PixArtSigmaPipeline
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.image_adapter import ImageAdapter
from seppo_core.models.latents import MASKED_TEXT, Condition
from seppo_core.models.noise_path import DiffusionNoisePath
from seppo_core.models.text import tokenize, too_long
from seppo_image.families.pixart import PixArtSigmaModel


class PixArtSigma(ImageAdapter):
    """A view of a `PixArtSigmaPipeline`; its transformer is the denoiser, its VAE and T5 are frozen.

    The transformer answers ε and, in as many channels again, a variance that it learnt; nothing that samples or trains
    here reads the variance, and full fine-tuning gives it no gradient. The pipeline has no LoRA loader: LoRA files are
    peft's own, for `PeftModel.from_pretrained(pipeline.transformer, folder)`.
    """

    pipeline: PixArtSigmaPipeline
    component = "transformer"
    guidance = "cfg"
    lora_format = "peft"
    masked_text = MASKED_TEXT

    def __init__(self, pipeline: PixArtSigmaPipeline, text_tokens: int = PixArtSigmaModel.text_tokens):
        if pipeline.transformer.use_additional_conditions:
            raise ValueError("the transformer wants each picture's size beside its text (PixArt-α); use a PixArt-Σ")
        super().__init__(pipeline, DiffusionNoisePath.from_scheduler(pipeline.scheduler), variance=True)
        self.text_tokens = text_tokens

    @classmethod
    def configured(cls, pipeline: PixArtSigmaPipeline, model: PixArtSigmaModel) -> "PixArtSigma":
        return cls(pipeline, model.text_tokens)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, text_tokens, d), "mask": (b, text_tokens)}: neither T5 nor the denoiser looks at the padding.

        As the pipeline with `clean_caption=False`; its default also takes links and marks out of captions, though only
        where beautifulsoup4 and ftfy are installed.
        """
        p = self.pipeline
        ids, mask = tokenize(p.tokenizer, [_plain(prompt) for prompt in prompts], self.text_tokens)
        ids, mask = ids.to(p.text_encoder.device), mask.to(p.text_encoder.device)
        return {"text": p.text_encoder(ids, attention_mask=mask)[0], "mask": mask}

    def truncated(self, prompts: list[str]) -> list[int]:
        return too_long(self.pipeline.tokenizer, [_plain(prompt) for prompt in prompts], self.text_tokens)

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        dtype = next(denoiser.parameters()).dtype
        answer = denoiser(
            hidden_states=x_t.to(dtype),
            encoder_hidden_states=condition["text"].to(dtype),
            encoder_attention_mask=condition["mask"],
            timestep=t,
            # Σ has none of α's micro-conditions, but is handed their names
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        # what follows ε is the variance
        return answer[:, : x_t.shape[1]]


def _plain(prompt: str) -> str:
    return prompt.lower().strip()
