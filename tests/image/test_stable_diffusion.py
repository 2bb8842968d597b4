"""Loading Stable Diffusion, and what it refuses to load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline

from seppo_core.models.patch_vae import PatchVAE
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stable-diffusion")
    tiny.stable_diffusion(folder / "words").save_pretrained(folder / "base")
    return folder / "base"


def parts(folder: Path) -> dict:
    return tiny.stable_diffusion(folder / "words").components | {"requires_safety_checker": False}


def load(base: str | Path, dtype: torch.dtype = torch.float32, vae: str | None = None) -> StableDiffusion:
    return StableDiffusion.load(StableDiffusionModel(base=str(base), vae=vae), dtype)


def test_loads_what_was_saved(folder):
    adapter = load(folder)
    expected = tiny.unet().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in adapter.denoiser.state_dict().items())
    assert adapter.pipeline.safety_checker is None
    assert adapter.path.prediction == "epsilon"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_vae_in_float32_where_it_asks_for_it(folder, dtype):
    adapter = load(folder, dtype)
    assert (adapter.denoiser.dtype, adapter.pipeline.text_encoder.dtype) == (dtype, dtype)
    assert adapter.pipeline.vae.dtype == torch.float32
    # every digit of it: not cast down and up again
    expected = tiny.vae().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in adapter.pipeline.vae.state_dict().items())
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = adapter.encode(pixels)
    torch.testing.assert_close(half, adapter.encode(pixels), rtol=0, atol=0)


def test_half_precision_takes_along_a_vae_that_does_not_ask(folder, tmp_path):
    pipeline = StableDiffusionPipeline(**parts(tmp_path))
    pipeline.vae.register_to_config(force_upcast=False)
    pipeline.save_pretrained(tmp_path / "base")
    adapter = load(tmp_path / "base", torch.bfloat16)
    assert adapter.pipeline.vae.dtype == torch.bfloat16
    assert adapter.encode(torch.zeros(1, 3, 64, 64)).mean.dtype == torch.float32


def test_another_vae(folder, tmp_path):
    tiny.shake(tiny.vae(scaling_factor=0.25), seed=9).save_pretrained(tmp_path / "vae")
    adapter = load(folder, vae=str(tmp_path / "vae"))
    assert adapter.pipeline.vae.config.scaling_factor == 0.25
    assert adapter.encode(torch.zeros(1, 3, 64, 64)).mean.shape == (1, 4, 8, 8)


def test_shift_of_the_vae(folder, tmp_path):
    plain, shifted = StableDiffusionPipeline(**parts(tmp_path)), StableDiffusionPipeline(**parts(tmp_path))
    shifted.vae.register_to_config(shift_factor=0.1)
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    one, other = StableDiffusion(plain), StableDiffusion(shifted)
    # (z − 0.1) · 0.5
    torch.testing.assert_close(other.encode(pixels).mean, one.encode(pixels).mean - 0.05)
    torch.testing.assert_close(other.encode(pixels).logvar, one.encode(pixels).logvar)
    latents = one.encode(pixels).mean
    torch.testing.assert_close(other.decode(latents - 0.05), one.decode(latents), rtol=1e-4, atol=1e-5)


def pixel_pipeline(folder: Path) -> StableDiffusionPipeline:
    """16×16 pixels as 12 channels of 8×8, cosine betas and v prediction, as in the embedded task."""
    unet = tiny.UNet2DConditionModel(
        sample_size=8,
        in_channels=12,
        out_channels=12,
        block_out_channels=(16, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=tiny.TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False, steps_offset=1
    )
    return StableDiffusionPipeline(**parts(folder) | {"vae": PatchVAE(), "unet": unet, "scheduler": scheduler})


@pytest.mark.slow
def test_folder_that_names_the_patch_vae(tmp_path):
    pixel_pipeline(tmp_path).save_pretrained(tmp_path / "base")
    # in a process of its own: here the class has been imported already
    script = (
        "import sys, torch; from seppo_image.stable_diffusion import StableDiffusion;"
        "from seppo_image.families.stable_diffusion import StableDiffusionModel;"
        "adapter = StableDiffusion.load(StableDiffusionModel(base=sys.argv[1]), torch.float32);"
        "pixels = torch.rand(2, 3, 16, 16) * 2 - 1;"
        "posterior = adapter.encode(pixels);"
        "assert posterior.mean.shape == (2, *adapter.latent_shape(16, 16)) == (2, 12, 8, 8);"
        "assert torch.equal(adapter.decode(posterior.mean), pixels)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "base")], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("/nowhere/base", "is neither a folder here nor a hub id"),
        ("./base", "is neither a folder here nor a hub id"),
        ("~/no/such/base", "is neither a folder here nor a hub id"),
        ("base", "is neither a folder here nor a hub id"),
        ("some/thing/else", "is neither a folder here nor a hub id"),
        ("nobody/nothing", "is not in the cache .* and HF_HUB_OFFLINE is set; .*hf download nobody/nothing"),
    ],
)
def test_missing_base(base, said):
    with pytest.raises(FileNotFoundError, match=f"base='?{base}'? {said}"):
        load(base)


def test_a_hub_that_does_not_answer_is_no_model_without_a_file(monkeypatch):
    """The client itself stays offline, as it was when it was imported."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(FileNotFoundError, match=r"is not in the cache .* and the hub cannot be reached; "):
        load("nobody/nothing")


def test_a_hub_that_cannot_be_reached_is_told_without_a_retry(monkeypatch, caplog):
    """A port of this machine at which nothing listens."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(FileNotFoundError, match=r"is not in the cache .* and the hub cannot be reached; "):
        load("nobody/nothing")
    assert "Retrying" not in caplog.text


def test_folder_without_an_index(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no model_index.json"):
        load(tmp_path)


def test_single_file(tmp_path):
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(ValueError, match="is cut off, or no safetensors file"):
        load(file)


def test_missing_vae(folder):
    with pytest.raises(FileNotFoundError, match="vae='/nowhere/vae'"):
        load(folder, vae="/nowhere/vae")


def test_pickled_weights_are_not_loaded(folder, tmp_path):
    pipeline = StableDiffusionPipeline(**parts(tmp_path))
    pipeline.save_pretrained(tmp_path / "base", safe_serialization=False)
    with pytest.raises(ValueError, match="unet and vae: holds weights as bin files alone"):
        load(tmp_path / "base")


def test_other_pipelines(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    with pytest.raises(ValueError, match=r"is a StableDiffusionXLPipeline.*StableDiffusionPipeline"):
        load(tmp_path)


def test_inpainting_unet(tmp_path):
    with pytest.raises(ValueError, match=r"takes 9 .* latents have 4"):
        StableDiffusion(StableDiffusionPipeline(**parts(tmp_path) | {"unet": tiny.unet(in_channels=9)}))


def test_guidance_distilled_unet(tmp_path):
    pipeline = StableDiffusionPipeline(**parts(tmp_path))
    pipeline.unet.register_to_config(time_cond_proj_dim=32)
    with pytest.raises(ValueError, match="LCM"):
        StableDiffusion(pipeline)


def test_vae_without_a_posterior(tmp_path):
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    with pytest.raises(ValueError, match="AutoencoderTiny has no posterior"):
        StableDiffusion(StableDiffusionPipeline(**parts(tmp_path) | {"vae": vae}))
