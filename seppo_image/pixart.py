"""PixArt-Σ: a diffusion transformer with T5 and up to 4K pixels a side (arXiv 2403.04692, 2024)."""

from pathlib import Path

import torch
from diffusers import PixArtSigmaPipeline
from jaxtyping import Float, Num
from peft import LoraConfig
from torch import Tensor, nn

from seppo_core.export.snippets import FOLDER, quoted
from seppo_core.models.adapter import Adapter, Condition, Posterior
from seppo_core.models.loading import freeze, load_pipeline
from seppo_core.models.lora_files import load_lora_folder, save_lora_folder
from seppo_core.models.noise_path import DiffusionNoisePath
from seppo_core.models.text import tokenize, too_long
from seppo_core.models.vae import decode_images, encode_images
from seppo_image.pipelines import check_channels, latent_shape


class PixArtSigma(Adapter):
    """A view of a `PixArtSigmaPipeline`; its transformer is the denoiser, its VAE and T5 are frozen.

    The transformer answers ε and, in as many channels again, a variance that it learnt; nothing that samples or trains
    here reads the variance, and full fine-tuning gives it no gradient. The pipeline has no LoRA loader: LoRA files are
    peft's own, for `PeftModel.from_pretrained(pipeline.transformer, folder)`.
    """

    pipeline: PixArtSigmaPipeline
    component = "transformer"
    guidance = "cfg"
    masked_text = {"text": "mask"}  # noqa: RUF012
    lora_targets = {"all": ["to_q", "to_k", "to_v", "to_out.0"]}  # noqa: RUF012
    trainable = {"all": ".*"}  # noqa: RUF012

    def __init__(self, pipeline: PixArtSigmaPipeline, text_tokens: int = 300):
        check_channels(pipeline, pipeline.transformer, variance=True)
        if pipeline.transformer.use_additional_conditions:
            raise ValueError("the transformer wants each picture's size beside its text (PixArt-α); use a PixArt-Σ")
        self.pipeline = pipeline
        self.text_tokens = text_tokens
        self.denoiser = pipeline.transformer
        self.scheduler = pipeline.scheduler
        self.path = DiffusionNoisePath.from_scheduler(pipeline.scheduler)
        freeze(pipeline, pipeline.transformer)

    @classmethod
    def load(
        cls,
        base: str,
        *,
        dtype: torch.dtype,
        vae: str | None = None,
        revision: str | None = None,
        variant: str | None = None,
        text_tokens: int = 300,
    ) -> "PixArtSigma":
        """Loads `base`, a folder or a hub id (see `load_pipeline`)."""
        pipeline = load_pipeline(
            PixArtSigmaPipeline, base, dtype=dtype, vae=vae, revision=revision, variant=variant
        )  # fmt: skip
        return cls(pipeline, text_tokens)

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

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Posterior:
        return encode_images(self.pipeline.vae, pixels)

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        return decode_images(self.pipeline.vae, latents)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, int, int]:
        return latent_shape(self.pipeline, height, width, frames, packed=self.denoiser.config.patch_size)

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

    def load_lora(self, source: str, name: str) -> None:
        load_lora_folder(self.denoiser, source, name)

    def save_lora(self, folder: Path, state: dict[str, Tensor], config: LoraConfig) -> None:
        save_lora_folder(folder, state, config)

    def lora_code(self) -> list[str]:
        made = f"pipe.transformer = PeftModel.from_pretrained(pipe.transformer, {quoted(FOLDER)})"
        return ["from peft import PeftModel", made]

    def export_pipeline(self) -> PixArtSigmaPipeline:
        """The pipeline around the current denoiser, sharing its weights; the VAE may be float32 beside a half one."""
        components = self.pipeline.components | {
            "transformer": self.denoiser,
            "scheduler": type(self.scheduler).from_config(self.scheduler.config),
        }
        return PixArtSigmaPipeline(**components)


def _plain(prompt: str) -> str:
    return prompt.lower().strip()
