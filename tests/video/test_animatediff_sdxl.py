"""AnimateDiff on Stable Diffusion XL beyond the contract: sizes and crops, loading, motion alone, a whole run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AnimateDiffSDXLPipeline, DDIMScheduler, MotionAdapter, UNet2DConditionModel
from torch import Tensor

from seppo_core.config.method import ReferenceSamplesConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.options import ExportRequest, SampleRequest
from seppo_core.config.schema import TuneConfig
from seppo_core.models.adapter import CropInfo
from seppo_core.models.sampling import sample
from seppo_core.training.setup import load_policy_into
from seppo_video import commands
from seppo_video.animatediff import AnimateDiff
from seppo_video.animatediff_sdxl import AnimateDiffXL
from seppo_video.config import VideoConfig, VideoData
from seppo_video.families.animatediff_sdxl import AnimateDiffXLModel
from seppo_video.frames import write_clip
from tests import tiny
from tests.contract.families import animatediff_sdxl, sdxl
from tests.contract.family import encode_pair
from tests.video.clips import moving

PROMPTS = ["a red house", "two cats"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An image base, a motion adapter, and the saved pipeline of the two."""
    folder = tmp_path_factory.mktemp("animatediff-sdxl")
    sdxl.pipeline(folder / "words").save_pretrained(folder / "base")
    animatediff_sdxl.motion().save_pretrained(folder / "motion")
    animatediff_sdxl.pipeline(folder / "words").save_pretrained(folder / "saved")
    return folder


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def load(folder: Path, dtype: torch.dtype = torch.float32, **options) -> AnimateDiffXL:
    """An image base with motion modules, unless `options` say otherwise."""
    settings = {"base": str(folder / "base"), "motion_adapter": str(folder / "motion")} | options
    return AnimateDiffXL.load(AnimateDiffXLModel(**settings), dtype)


def load_saved(folder: Path, motion_adapter: str | None = None) -> AnimateDiffXL:
    return AnimateDiffXL.load(AnimateDiffXLModel(base=str(folder), motion_adapter=motion_adapter), torch.float32)


def test_each_clip_is_told_its_size_and_crop(tmp_path):
    """Two clips of different framing in one batch, against the pipeline that is told one framing at a time."""
    adapter, plain = AnimateDiffXL(animatediff_sdxl.pipeline(tmp_path)), animatediff_sdxl.pipeline(tmp_path)
    framings = [CropInfo(1080, 1921, 0, 24, 64, 96), CropInfo(70, 96, 3, 0, 64, 96)]
    noise = normal(2, 4, 4, 8, 12)
    found = sample(
        adapter, adapter.denoiser, adapter.encode_prompts(PROMPTS) | adapter.size_condition(framings), noise=noise,
        steps=3, guidance_scale=3.0, unconditional=adapter.encode_prompts([""]),
    )  # fmt: skip
    for item, f in enumerate(framings):
        expected = plain(
            PROMPTS[item], latents=noise[item : item + 1].clone(), num_inference_steps=3, guidance_scale=3.0,
            output_type="latent", height=64, width=96, num_frames=4,
            original_size=(f.original_height, f.original_width), crops_coords_top_left=(f.top, f.left),
            target_size=(f.height, f.width),
        )[0]  # fmt: skip
        torch.testing.assert_close(found[item : item + 1], expected, rtol=1e-3, atol=1e-4)
    assert (found[0] - found[1]).abs().max() > 0.1


@pytest.mark.parametrize("zeros", [True, False])
def test_empty_prompt_is_what_the_pipeline_s_config_says(tmp_path, zeros):
    adapter = AnimateDiffXL(animatediff_sdxl.pipeline(tmp_path, zeros))
    _, empty = encode_pair(animatediff_sdxl.pipeline(tmp_path, zeros), PROMPTS)
    for name, value in adapter.encode_prompts([""]).items():
        torch.testing.assert_close(value, empty[name][:1])
        assert bool((value == 0).all()) == zeros
    assert adapter.export_pipeline().config.force_zeros_for_empty_prompt == zeros


def test_image_base_and_motion_make_the_same_model_as_the_saved_pipeline(folder):
    with pytest.warns(UserWarning, match="linear betas") as caught:
        one = load(folder)
    # the place that is warned of is the caller's, not one inside the package
    assert Path(caught[0].filename).name == Path(__file__).name
    other = load_saved(folder / "saved")
    found = one.denoiser.state_dict()
    assert found.keys() == other.denoiser.state_dict().keys()
    assert all(torch.equal(value, found[name]) for name, value in other.denoiser.state_dict().items())
    assert one.pipeline.config.force_zeros_for_empty_prompt
    for adapter in (one, other):
        assert isinstance(adapter.scheduler, DDIMScheduler)
        assert adapter.scheduler.config.beta_schedule == "linear"
        assert adapter.scheduler.config.timestep_spacing == "linspace"


def test_the_base_s_embedding_of_sizes_and_captions_is_kept(folder):
    """diffusers' own pipeline of an image base and a motion adapter has random weights there."""
    expected = UNet2DConditionModel.from_pretrained(folder / "base" / "unet").state_dict()
    found = load(folder, schedule="base").denoiser.state_dict()
    kept = {name for name in expected if name in found}
    assert any("add_embedding" in name for name in kept)
    assert kept == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in kept)


def test_schedule_of_the_base(folder):
    adapter = load(folder, schedule="base")
    assert adapter.scheduler.config.beta_schedule == "scaled_linear"


def test_half_precision(folder):
    adapter = load(folder, dtype=torch.bfloat16, schedule="base")
    assert {parameter.dtype for parameter in adapter.denoiser.parameters()} == {torch.bfloat16}
    assert adapter.pipeline.vae.dtype == torch.float32
    assert adapter.motion_adapter().dtype == torch.bfloat16


def test_what_does_not_fit_is_refused(folder, tmp_path):
    tiny.stable_diffusion(tmp_path / "words").save_pretrained(tmp_path / "sd15")
    with pytest.raises(ValueError, match=r"is a StableDiffusionPipeline.*AnimateDiffSDXLPipeline"):
        load_saved(tmp_path / "sd15", str(folder / "motion"))
    with pytest.raises(ValueError, match=r"name the motion_adapter .*sdxl-beta"):
        load(folder, motion_adapter=None)
    tiny.motion().save_pretrained(tmp_path / "motion")
    with pytest.raises(ValueError, match="does not fit base"):
        load(folder, motion_adapter=str(tmp_path / "motion"))
    with pytest.raises(ValueError, match="use a Stable Diffusion XL base"):
        AnimateDiffXL(tiny.animatediff(tmp_path / "words"))
    with pytest.raises(ValueError, match=r"use a Stable Diffusion 1\.5 base"):
        AnimateDiff(animatediff_sdxl.pipeline(tmp_path / "words"))
    playground = animatediff_sdxl.pipeline(tmp_path / "words")
    playground.vae.register_to_config(latents_mean=[0.0] * 4)
    with pytest.raises(ValueError, match="normalises each channel"):
        AnimateDiffXL(playground)


def write_clips(folder: Path, count: int) -> None:
    """Clips of 70 x 120 pixels, so that a crop is told."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        write_clip(folder / f"{number}.mkv", moving(4, 70, 120)[:, :, ::-1] // (number + 1), 8)
        rows.append(json.dumps({"file_name": f"{number}.mkv", "caption": f"a square before {number} hills"}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))


def config_of(folder: Path, root: Path, mode: str) -> VideoConfig:
    data = VideoData(
        source=str(root / "clips"), cache=str(root / "cache"), height=64, width=96, frames=4, caption_dropout=0.3
    )
    model = AnimateDiffXLModel(base=str(folder / "saved"))
    base = VideoConfig(run=str(root / "run"), model=model, data=data)
    return replace(
        base,
        method=SeppoConfig(beta=50),
        reference_samples=ReferenceSamplesConfig(steps=2, guidance_scale=2.0, batch_size=3),
        tune=TuneConfig(mode=mode, scope="motion", rank=2, alpha=4),
        loop=replace(base.loop, iterations=2, updates_per_iteration=2, batch_size=2, micro_batch_size=1),
        optimizer=replace(base.optimizer, lr=1e-3),
    )


def drawn(pipeline: AnimateDiffSDXLPipeline) -> Tensor:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        PROMPTS, num_inference_steps=2, height=64, width=96, num_frames=4, output_type="pt", guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
    )[0]  # fmt: skip


@pytest.mark.parametrize("mode", [pytest.param("lora", marks=pytest.mark.slow), "full"])
def test_a_whole_run_of_the_motion_alone(folder, tmp_path, mode):
    """As the command line does, and plain diffusers on both exports: the LoRA or pipeline, and the motion adapter."""
    write_clips(tmp_path / "clips", 4)
    config = config_of(folder, tmp_path, mode)
    commands.prepare(config)
    commands.train(config)
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    commands.sample(config, SampleRequest(prompts=tuple(PROMPTS), steps=2, out=str(tmp_path / "samples")))
    assert len(list((tmp_path / "samples").glob("*.mp4"))) == 2

    adapter = commands.load(config)
    load_policy_into(adapter, config, "latest")
    expected = drawn(adapter.pipeline)
    commands.export(config, ExportRequest(out=str(tmp_path / "exported")))
    plain = AnimateDiffSDXLPipeline.from_pretrained(
        tmp_path / "exported" if mode == "full" else folder / "saved"
    )  # fmt: skip
    before = drawn(plain)
    if mode == "lora":
        plain.load_lora_weights(tmp_path / "exported")
        assert (before - expected).abs().max() > 1e-4
    torch.testing.assert_close(drawn(plain), expected, rtol=1e-3, atol=1e-3)

    commands.export(config, ExportRequest(kind="motion", out=str(tmp_path / "motion")))
    onto_base = AnimateDiffSDXLPipeline.from_pretrained(
        folder / "base",
        motion_adapter=MotionAdapter.from_pretrained(tmp_path / "motion"),
        scheduler=DDIMScheduler.from_config(adapter.scheduler.config),
    )
    base = UNet2DConditionModel.from_pretrained(folder / "base" / "unet")
    onto_base.unet.add_embedding.load_state_dict(base.add_embedding.state_dict())
    torch.testing.assert_close(drawn(onto_base), expected, rtol=1e-3, atol=1e-3)
