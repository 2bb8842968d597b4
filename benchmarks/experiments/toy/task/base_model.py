"""A base as one module, and as the pipeline folders that it is saved in and loaded from."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.evaluation import tiny_models as models
from benchmarks.experiments.toy.task.mixture import draw_images, draw_videos
from seppo_core.models.patch_vae import PatchVAE
from seppo_core.toy.captions import Modality, all_captions

WHITENING = 0.75


def autoencoder() -> PatchVAE:
    """Principal components of 4×4 patches of pictures and of clips' frames; 32×32 pixels become 12×8×8 latents.

    They keep 99 % of the pixels' variance. Channels are brought nearer to each other by WHITENING, since the edges that
    make a shape lie in those that vary least.
    """
    generator = torch.Generator().manual_seed(0)
    pictures = draw_images(all_captions("image") * 8, generator)
    frames = draw_videos(all_captions("video"), generator).movedim(2, 1).flatten(0, 1)
    pixels = torch.cat([pictures, frames])
    vae = PatchVAE(latent_channels=12, block_out_channels=(1, 1, 1))
    vae.fit(pixels, WHITENING)
    deviation = vae.encode(pixels).latent_dist.mean.std().item()
    vae.register_to_config(scaling_factor=round(1 / deviation, 3))
    return vae


class Base(nn.Module):
    """A denoiser and the text encoder trained with it."""

    def __init__(self, modality: Modality, channels: tuple[int, int]):
        super().__init__()
        self.modality: Modality = modality
        self.channels = channels
        self.tokenizer = models.tokenizer()
        self.vae = autoencoder()
        self.encoder = models.text_encoder(self.tokenizer)
        self.denoiser = models.unet(channels)
        self.has_motion = False

    def add_motion(self) -> None:
        """Makes the picture UNet a motion UNet that so far gives each frame what the picture UNet gives it."""
        self.denoiser = models.motion_unet(self.denoiser, self.channels)
        self.has_motion = True

    def load(self, folder: Path, name: str) -> None:
        """Takes on the weights that `save` wrote under `name`; those of "video" come with their motion."""
        # the saved ids, not fresh ones: those change with the words of the captions
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / name / "tokenizer")
        self.encoder = CLIPTextModel.from_pretrained(folder / name / "text_encoder")
        self.vae = PatchVAE.from_pretrained(folder / name / "vae")
        # diffusers would write the folder that it came from into what is saved
        self.vae.register_to_config(_name_or_path="")
        self.denoiser = UNet2DConditionModel.from_pretrained(folder / name / "unet")
        if name == "video":
            adapter = MotionAdapter.from_pretrained(folder / "motion")
            self.denoiser = UNetMotionModel.from_unet2d(self.denoiser, adapter)
            self.has_motion = True
        self.requires_grad_(True)
        self.vae.requires_grad_(False)

    def tokens(self, captions: list[str]) -> Tensor:
        """Token ids (b, MAX_TOKENS), padded as the pipelines pad."""
        return self.tokenizer(
            captions, padding="max_length", max_length=models.MAX_TOKENS, truncation=True, return_tensors="pt"
        ).input_ids

    @torch.no_grad()
    def draw_words(self, words: Sequence[str], generator: torch.Generator) -> None:
        """Draws the embeddings of `words` anew, far apart: of words that no caption has had they are close."""
        table = self.encoder.get_input_embeddings().weight
        for word in words:
            place = self.tokenizer.convert_tokens_to_ids(f"{word}</w>")
            table[place] = torch.randn(table.shape[1], generator=generator)

    def frame_latents(self, pixels: Tensor) -> Tensor:
        """Pixels (b, 3, 32, 32) to latents (b, 12, 8, 8), scaled."""
        return self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor

    def latents(self, pixels: Tensor) -> Tensor:
        """Pixels (b, 3, [f,] 32, 32) to latents (b, 12, [f,] 8, 8)."""
        if self.modality == "image":
            return self.frame_latents(pixels)
        frames = self.frame_latents(pixels.movedim(2, 1).flatten(0, 1))
        return frames.unflatten(0, (len(pixels), -1)).movedim(1, 2)

    def pixels(self, latents: Tensor) -> Tensor:
        """The way back from `latents`."""
        latents = latents / self.vae.config.scaling_factor
        if self.modality == "image":
            return self.vae.decode(latents).sample
        frames = self.vae.decode(latents.movedim(2, 1).flatten(0, 1)).sample
        return frames.unflatten(0, (len(latents), -1)).movedim(1, 2)

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        text = self.encoder(tokens).last_hidden_state
        if x_t.ndim == 5:
            text = text.repeat_interleave(x_t.shape[2], dim=0)  # UNetMotionModel wants one row per frame
        return self.denoiser(x_t, t, encoder_hidden_states=text).sample

    def save(self, folder: Path) -> None:
        """Writes the pipeline folders `image`, or `video` and `motion`, under `folder`; each is swapped in whole."""
        if self.modality == "image":
            parts = {"image": models.image_pipeline(self.denoiser, self.encoder, self.tokenizer, self.vae)}
        else:
            picture, adapter = models.split(self.denoiser, self.channels)
            # the motion in half precision, so that both parts together stay below 6 MB
            parts = {
                "video": models.image_pipeline(picture, self.encoder, self.tokenizer, self.vae),
                "motion": adapter.half(),
            }
        for name, part in parts.items():
            fresh, old = folder / f".{name}.new", folder / f".{name}.old"
            for leftover in (fresh, old):
                shutil.rmtree(leftover, ignore_errors=True)
            part.save_pretrained(fresh)
            if (folder / name).exists():
                (folder / name).rename(old)
            fresh.rename(folder / name)
            shutil.rmtree(old, ignore_errors=True)
