"""Loading AnimateDiff: its linear betas, its scopes, and what it refuses to load."""

import json
import re
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import AnimateDiffPipeline, DDIMScheduler, MotionAdapter, UNetMotionModel
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists

from seppo_core.models.noise_path import DiffusionNoisePath
from seppo_core.models.sampling import sample
from seppo_video.animatediff import AnimateDiff
from seppo_video.families.animatediff import AnimateDiffModel
from seppo_video.motion import motion_adapter_of
from tests import tiny

LINEAR = torch.cumprod(1 - torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64), 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An image base, a motion adapter, and a saved AnimateDiff pipeline."""
    folder = tmp_path_factory.mktemp("animatediff")
    tiny.stable_diffusion(folder / "words").save_pretrained(folder / "base")
    tiny.motion().save_pretrained(folder / "motion")
    tiny.animatediff(folder / "words").save_pretrained(folder / "saved")
    return folder


def load(folder: Path, dtype: torch.dtype = torch.float32, **options) -> AnimateDiff:
    """An image base with motion modules, unless `options` say otherwise."""
    settings = {"base": str(folder / "base"), "motion_adapter": str(folder / "motion")} | options
    return AnimateDiff.load(AnimateDiffModel(**settings), dtype)


def load_saved(folder: Path, motion_adapter: str | None = None) -> AnimateDiff:
    return AnimateDiff.load(AnimateDiffModel(base=str(folder), motion_adapter=motion_adapter), torch.float32)


def test_image_base_is_put_on_linear_betas_with_a_warning(folder):
    with pytest.warns(UserWarning, match="linear betas") as caught:
        adapter = load(folder)
    assert len(caught) == 1
    said = str(caught[0].message)
    assert "beta_schedule='scaled_linear' (now 'linear')" in said
    assert "timestep_spacing='leading' (now 'linspace')" in said
    assert 'schedule="base"' in said
    # the betas agree up to the scheduler's float32 products
    torch.testing.assert_close(adapter.path.alphas_cumprod, LINEAR, rtol=2e-4, atol=1e-9)
    assert isinstance(adapter.scheduler, DDIMScheduler)
    config = adapter.scheduler.config
    assert (config.clip_sample, config.timestep_spacing, config.steps_offset) == (False, "linspace", 1)
    torch.testing.assert_close(
        DiffusionNoisePath.from_scheduler(adapter.scheduler).alphas_cumprod, adapter.path.alphas_cumprod
    )


def test_linear_scheduler_is_the_one_that_diffusers_documents(folder):
    with pytest.warns(UserWarning, match="linear betas"):
        adapter = load(folder)
    documented = DDIMScheduler.from_pretrained(
        folder / "base",
        subfolder="scheduler",
        clip_sample=False,
        timestep_spacing="linspace",
        beta_schedule="linear",
        steps_offset=1,
    )
    ignored = {"_use_default_values", "_diffusers_version"}
    ours, theirs = ({k: v for k, v in s.config.items() if k not in ignored} for s in (adapter.scheduler, documented))
    assert ours == theirs


def test_schedule_of_the_base(folder):
    adapter = load(folder, schedule="base")
    assert adapter.scheduler.config.beta_schedule == "scaled_linear"
    assert (adapter.path.alphas_cumprod - LINEAR).abs().max() > 0.01


def test_saved_pipeline_that_is_linear_already_is_taken_in_silence(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        adapter = load_saved(folder / "saved")
    torch.testing.assert_close(adapter.path.alphas_cumprod, LINEAR, rtol=2e-4, atol=1e-9)


def test_prediction_type_stays_the_base_s(tmp_path):
    with pytest.warns(UserWarning, match="linear betas"):
        adapter = AnimateDiff(tiny.animatediff(tmp_path, tiny.scheduler("v_prediction")))
    assert adapter.path.prediction == "v_prediction"
    assert adapter.scheduler.config.prediction_type == "v_prediction"


def test_unknown_schedule(tmp_path):
    with pytest.raises(ValueError, match="schedule='cosine'"):
        AnimateDiff(tiny.animatediff(tmp_path), schedule="cosine")


def test_base_and_motion_make_the_same_model_as_the_saved_pipeline(folder):
    with pytest.warns(UserWarning, match="linear betas"):
        one = load(folder)
    other = load_saved(folder / "saved")
    assert all(
        torch.equal(value, one.denoiser.state_dict()[name]) for name, value in other.denoiser.state_dict().items()
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(folder, dtype):
    adapter = load(folder, dtype=dtype, schedule="base")
    assert {parameter.dtype for parameter in adapter.denoiser.parameters()} == {dtype}
    assert adapter.pipeline.vae.dtype == torch.float32
    assert adapter.motion_adapter().dtype == dtype


def test_scopes_part_the_weights(tmp_path):
    denoiser = AnimateDiff(tiny.animatediff(tmp_path)).denoiser
    names = [name for name, _ in denoiser.named_parameters()]
    matched = {
        scope: {name for name in names if re.match(pattern, name)} for scope, pattern in AnimateDiff.trainable.items()
    }
    assert matched["all"] == set(names)
    assert matched["motion"] == {name for name in names if "motion_modules" in name}
    assert matched["spatial"] == matched["all"] - matched["motion"]


def test_lora_scopes_part_the_attention(tmp_path):
    denoiser = AnimateDiff(tiny.animatediff(tmp_path)).denoiser
    projections = ("to_q", "to_k", "to_v", "to_out.0")
    expected = {name for name, _ in denoiser.named_modules() if name.endswith(projections)}
    matched = {
        scope: {
            name
            for name, _ in denoiser.named_modules()
            if check_target_module_exists(LoraConfig(target_modules=target), name)
        }
        for scope, target in AnimateDiff.lora_targets.items()
    }
    assert matched["all"] == expected
    assert matched["motion"] == {name for name in expected if "motion_modules" in name}
    assert matched["spatial"] == expected - matched["motion"]
    assert matched["motion"] and matched["spatial"]


def test_exported_motion_goes_with_any_base(folder, tmp_path):
    """The motion-only file on an untouched base, in plain diffusers, is the trained model where only motion moved."""
    adapter = load_saved(folder / "saved")
    for name, parameter in adapter.denoiser.named_parameters():
        if re.match(AnimateDiff.trainable["motion"], name):
            parameter.data += 0.05
    adapter.motion_adapter().save_pretrained(tmp_path / "motion")
    plain = AnimateDiffPipeline.from_pretrained(
        folder / "base",
        motion_adapter=MotionAdapter.from_pretrained(tmp_path / "motion"),
        scheduler=DDIMScheduler.from_config(adapter.scheduler.config),
    )
    plain.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = plain(
        "a dog", height=64, width=64, num_frames=4, num_inference_steps=3, latents=noise.clone(), output_type="latent"
    ).frames
    text, empty = adapter.encode_prompts(["a dog"]), adapter.encode_prompts([""])
    ours = sample(
        adapter, adapter.denoiser, text, noise=noise, steps=3, guidance_scale=7.5, unconditional=empty
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_motion_mid_block": False},
        {"motion_max_seq_length": 24, "motion_num_attention_heads": 4},
    ],
)
def test_motion_adapter_round_trip(options):
    torch.manual_seed(0)
    settings = {
        "block_out_channels": (32, 64),
        "motion_layers_per_block": 1,
        "motion_num_attention_heads": 2,
        "motion_norm_num_groups": 8,
        "motion_max_seq_length": 8,
    }
    motion = MotionAdapter(**settings | options)
    found = motion_adapter_of(UNetMotionModel.from_unet2d(tiny.unet(), motion))
    assert found.state_dict().keys() == motion.state_dict().keys()
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in motion.state_dict().items())


def test_motion_adapter_replaces_a_saved_pipeline_s(folder, tmp_path):
    tiny.shake(tiny.motion(), seed=7).save_pretrained(tmp_path / "motion")
    adapter = load_saved(folder / "saved", str(tmp_path / "motion"))
    expected = MotionAdapter.from_pretrained(tmp_path / "motion").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in adapter.motion_adapter().state_dict().items())


def test_frames_beyond_the_motion_s_length(tmp_path):
    adapter = AnimateDiff(tiny.animatediff(tmp_path))
    assert adapter.latent_shape(64, 64, tiny.MOTION_LENGTH) == (4, tiny.MOTION_LENGTH, 8, 8)
    with pytest.raises(ValueError, match="9 frames do not fit motion modules that know 8 positions; use 1 to 8"):
        adapter.latent_shape(64, 64, 9)


def test_image_base_without_motion(folder):
    with pytest.raises(ValueError, match="is an image model; name the motion_adapter"):
        load_saved(folder / "base")


def test_motion_made_for_another_unet(folder, tmp_path):
    MotionAdapter(block_out_channels=(32, 32), motion_layers_per_block=1, motion_norm_num_groups=8).save_pretrained(
        tmp_path / "motion"
    )
    for base in ("base", "saved"):
        with pytest.raises(ValueError, match=r"does not fit base.*block_out_channels is \[32, 32\] against \[32, 64\]"):
            load_saved(folder / base, str(tmp_path / "motion"))


def test_missing_motion(folder):
    with pytest.raises(FileNotFoundError, match="motion_adapter='/nowhere/motion'"):
        load(folder, motion_adapter="/nowhere/motion")


def test_other_pipelines(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "CogVideoXPipeline"}))
    with pytest.raises(ValueError, match=r"is a CogVideoXPipeline.*AnimateDiffPipeline"):
        load_saved(tmp_path)


def test_inpainting_unet(tmp_path):
    pipeline = tiny.stable_diffusion(tmp_path)
    components = {k: v for k, v in pipeline.components.items() if k != "safety_checker"} | {
        "unet": tiny.unet(in_channels=9), "motion_adapter": tiny.motion()
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"takes 9 .* latents have 4"):
        AnimateDiff(AnimateDiffPipeline(**components), schedule="base")
