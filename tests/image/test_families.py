"""Beyond the contract: loading, what each is told that others are not, and whole runs on them."""

from functools import partial

import pytest
import torch
from diffusers import (
    FluxPipeline,
)

from seppo_core.config.loader import load_config
from seppo_core.config.method import ReferenceSamplesConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.schema import TuneConfig
from seppo_core.models.adapter import CropInfo
from seppo_core.models.noise_path import DiffusionNoisePath, FlowNoisePath
from seppo_core.models.sampling import sample
from seppo_core.models.tuning import tune_lora
from seppo_core.training.setup import with_method
from seppo_image.config import ImageConfig, ImageData, ImageModel
from seppo_image.families.flux import FluxModel
from seppo_image.families.sd3 import StableDiffusion3Model
from seppo_image.flux import Flux, image_ids, pack, unpack
from seppo_image.sd3 import StableDiffusion3
from seppo_image.sdxl import StableDiffusionXL
from tests.contract.families import flux, sd3, sdxl
from tests.contract.family import encode_pair
from tests.tiny import T5_TOKENS, T5_WIDTH

PROMPTS = ["a red house", "two cats"]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_what_is_no_text_to_image_model_is_refused(tmp_path):
    inpainting = sdxl.pipeline(tmp_path)
    inpainting.unet.register_to_config(in_channels=9)
    with pytest.raises(ValueError, match="takes 9 and gives 4 channels, the VAE's latents have 4"):
        StableDiffusionXL(inpainting)
    playground = sdxl.pipeline(tmp_path)
    playground.vae.register_to_config(latents_mean=[0.0] * 4)
    with pytest.raises(ValueError, match="normalises each channel"):
        StableDiffusionXL(playground)
    distilled = sdxl.pipeline(tmp_path)
    distilled.unet.register_to_config(time_cond_proj_dim=32)
    with pytest.raises(ValueError, match="LCM"):
        StableDiffusionXL(distilled)


def test_sdxl_is_told_each_picture_s_size_and_crop(tmp_path):
    """Two pictures of different framing in one batch, against the pipeline that is told one framing at a time."""
    adapter, plain = StableDiffusionXL(sdxl.pipeline(tmp_path)), sdxl.pipeline(tmp_path)
    framings = [CropInfo(3024, 4033, 0, 24, 64, 96), CropInfo(70, 96, 3, 0, 64, 96)]
    framing = adapter.size_condition(framings)
    assert framing["time_ids"].dtype == torch.int64
    noise = normal(2, 4, 8, 12)
    found = sample(
        adapter, adapter.denoiser, adapter.encode_prompts(PROMPTS) | framing, noise=noise, steps=3, guidance_scale=3.0,
        unconditional=adapter.encode_prompts([""]),
    )  # fmt: skip
    for item, f in enumerate(framings):
        expected = plain(
            PROMPTS[item], latents=noise[item : item + 1].clone(), num_inference_steps=3, guidance_scale=3.0,
            output_type="latent", height=64, width=96, original_size=(f.original_height, f.original_width),
            crops_coords_top_left=(f.top, f.left), target_size=(f.height, f.width),
        )[0]  # fmt: skip
        torch.testing.assert_close(found[item : item + 1], expected, rtol=1e-4, atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 0.1


@pytest.mark.parametrize("zeros", [True, False])
def test_sdxl_empty_prompt_is_what_the_pipeline_s_config_says(tmp_path, zeros):
    adapter, plain = StableDiffusionXL(sdxl.pipeline(tmp_path, zeros)), sdxl.pipeline(tmp_path, zeros)
    expected, empty = encode_pair(plain, PROMPTS)
    found = adapter.encode_prompts([PROMPTS[0], "", PROMPTS[1]])
    for name, value in found.items():
        torch.testing.assert_close(value[[0, 2]], expected[name])
        torch.testing.assert_close(value[1], empty[name][0])
        assert bool((value[1] == 0).all()) == zeros
    assert adapter.export_pipeline().config.force_zeros_for_empty_prompt == zeros


def test_flux_guidance_of_training_and_of_sampling(tmp_path):
    adapter = Flux(flux.pipeline(tmp_path), text_tokens=T5_TOKENS, training_guidance=2.0)
    condition = adapter.encode_prompts(PROMPTS)
    call = partial(adapter.predict, adapter.denoiser, normal(2, 4, 8, 12), torch.tensor([100.0, 900.0]))
    with torch.no_grad():
        training = call(condition)
        assert torch.equal(training, call(adapter.with_guidance(condition, 2.0)))
        assert (training - call(adapter.with_guidance(condition, 3.5))).abs().max() > 1e-2
    schnell = Flux(flux.pipeline(tmp_path, dev=False))
    assert schnell.guidance == "none"
    assert schnell.with_guidance(condition, 3.5) is condition


def test_flux_packing_is_the_pipeline_s():
    latents = normal(2, 4, 6, 10)
    tokens = FluxPipeline._pack_latents(latents, *latents.shape)
    assert torch.equal(pack(latents), tokens)
    assert torch.equal(unpack(tokens, 3), latents)
    ids = FluxPipeline._prepare_latent_image_ids(1, 3, 5, torch.device("cpu"), torch.float32)
    assert torch.equal(image_ids(3, 5, torch.device("cpu")), ids)


@pytest.mark.parametrize("wrap", [StableDiffusion3, Flux])
def test_half_a_token_is_refused(tmp_path, wrap):
    pipeline = sd3.pipeline(tmp_path) if wrap is StableDiffusion3 else flux.pipeline(tmp_path)
    with pytest.raises(ValueError, match=r"72 × 64 does not fit .* use e\.g\. 80 × 64"):
        wrap(pipeline).latent_shape(72, 64)


def test_t5_can_be_left_out(tmp_path):
    sd3.pipeline(tmp_path / "words").save_pretrained(tmp_path / "sd3")
    adapter = StableDiffusion3.load(
        StableDiffusion3Model(base=str(tmp_path / "sd3"), t5=False, text_tokens=7), torch.float32
    )
    assert adapter.pipeline.text_encoder_3 is None
    text = adapter.encode_prompts(PROMPTS)["text"]
    assert text.shape == (2, 16 + 7, T5_WIDTH)
    assert (text[:, -7:] == 0).all()
    # CLIP's limit counts then, of 16 tokens
    assert adapter.truncated(["two cats under a tree"]) == [0]
    whole = StableDiffusion3(sd3.pipeline(tmp_path), text_tokens=30)
    assert whole.truncated(["two cats under a tree"]) == []


def test_lora_of_sd3_leaves_out_what_cannot_learn(tmp_path):
    adapter = StableDiffusion3(sd3.pipeline(tmp_path))
    tune_lora(adapter.denoiser, adapter.lora_targets["all"], rank=2)
    marker = ".lora_A.policy.weight"
    names = {name.removesuffix(marker) for name, _ in adapter.denoiser.named_parameters() if name.endswith(marker)}
    streams = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
    first = {f"transformer_blocks.0.attn.{name}" for name in streams} | {
        f"transformer_blocks.0.attn2.{name}" for name in streams[:4]
    }
    last = {f"transformer_blocks.1.attn.{name}" for name in streams if name not in ("add_q_proj", "to_add_out")}
    assert names == first | last


def test_what_a_path_has_not_is_refused():
    with pytest.raises(ValueError, match=r"min_snr_gamma=5.0 is for diffusion models"):
        with_method(FlowNoisePath(), SeppoConfig(min_snr_gamma=5.0))
    with pytest.raises(ValueError, match=r"timestep_shift=3.0 is for flow-matching models"):
        with_method(DiffusionNoisePath(torch.ones(3) / 2, "epsilon"), SeppoConfig(timestep_shift=3.0))


@pytest.mark.parametrize(
    ("family", "keys", "changes", "message"),
    [
        ("flux", {"text_tokens": 513}, {}, "text_tokens=513 .* 1 to 512"),
        ("flux", {"training_guidance": -1.0}, {}, r"training_guidance=-1\.0 .* at least 0"),
        ("sdxl", {}, {"method": SeppoConfig(timestep_shift=3.0)}, r"timestep_shift=3\.0 .* sdxl"),
        ("flux", {}, {"method": SeppoConfig(min_snr_gamma=5)}, "min_snr_gamma=5 .* flux"),
        ("sd3", {}, {"reference_samples": ReferenceSamplesConfig(scheduler="ddim")}, "scheduler=ddim .* sd3"),
        ("sd3", {}, {"tune": TuneConfig(scope="motion")}, "scope=motion .* all for sd3"),
    ],
)
def test_what_a_family_has_not_is_refused(family, keys, changes, message):
    with pytest.raises(ValueError, match=message):
        model = ImageModel.variants()[family](base="b", **keys)
        ImageConfig(run="r", model=model, data=ImageData(source="s", cache="c"), **changes)


def test_a_config_file_has_the_keys_of_its_family(tmp_path):
    """Files of older runs list the keys of all families, most of them null."""
    path = tmp_path / "config.yaml"
    model = "base: b, family: flux, text_tokens: null, t5: null, training_guidance: 2.0"
    path.write_text(f"run: r\nmodel: {{{model}}}\ndata: {{source: s, cache: c}}\n")
    assert load_config(path, ImageConfig).model == FluxModel(base="b", training_guidance=2.0)
    path.write_text("run: r\nmodel: {base: b, family: sdxl, t5: false}\ndata: {source: s, cache: c}\n")
    with pytest.raises(ValueError, match=r"model\.t5=false .* model\.family=sdxl"):
        load_config(path, ImageConfig)
    path.write_text("run: r\nmodel: {base: b, family: sdlx}\ndata: {source: s, cache: c}\n")
    with pytest.raises(ValueError, match=r"model\.family=.sdlx. .*did you mean sdxl"):
        load_config(path, ImageConfig)
