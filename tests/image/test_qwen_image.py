"""Qwen-Image beyond the contract: what is refused, pictures larger than a tile, captions with braces."""

import pytest
import torch

from seppo_image.families.qwen_image import QwenImageModel
from seppo_image.qwen_image import QwenImage
from tests.contract.families import qwen_image
from tests.tiny import T5_TOKENS


def test_embedded_guidance_is_refused(tmp_path):
    pipeline = qwen_image.pipeline(tmp_path)
    pipeline.transformer.register_to_config(guidance_embeds=True)
    with pytest.raises(ValueError, match="guidance embedded"):
        QwenImage(pipeline)


def test_captions_longer_than_the_pipeline_takes_are_refused():
    with pytest.raises(ValueError, match=r"text_tokens=1025 .* 1 to 1024"):
        QwenImageModel(base="tiny", text_tokens=1025)


@torch.no_grad()
def test_a_picture_larger_than_a_tile_is_decoded_as_the_pipeline_does(tmp_path):
    """Its VAE has tiles of 256 × 256 pixels for clips; their seams would be in every sample."""
    adapter, plain = QwenImage(qwen_image.pipeline(tmp_path)), qwen_image.pipeline(tmp_path)
    noise = torch.randn(1, 4, 36, 40, generator=torch.Generator().manual_seed(0))
    latents, expected = (
        plain(
            "a red house",
            latents=qwen_image.pack(noise),
            height=288,
            width=320,
            num_inference_steps=2,
            output_type=kind,
        ).images
        for kind in ("latent", "pt")
    )
    latents = qwen_image.unpack(latents, noise.shape)
    found = (adapter.decode(latents) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    plain.vae.enable_tiling()
    shift, scale = adapter.scaling
    tiled = plain.vae.decode(latents.unsqueeze(2) / scale + shift).sample.squeeze(2)
    assert (tiled - adapter.decode(latents)).abs().max() > 1e-3


def test_braces_of_a_caption_are_kept(tmp_path):
    adapter = QwenImage(qwen_image.pipeline(tmp_path), T5_TOKENS)
    expected, _ = qwen_image.encode(qwen_image.pipeline(tmp_path), ["a {}", "{b}"])
    torch.testing.assert_close(adapter.encode_prompts(["a {}", "{b}"])["text"], expected["text"])
