"""A base in one file, as the first release laid it out, is the base that it was written from."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from seppo_core.config.loader import read_draft
from seppo_core.config.single_file import layout_of, numbers_of, read_header
from seppo_core.models.fingerprint import frozen_fingerprint
from seppo_image.config import ImageConfig
from seppo_image.families.sdxl import StableDiffusionXLModel
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_image.sdxl import StableDiffusionXL
from seppo_image.stable_diffusion import StableDiffusion
from seppo_video.animatediff import AnimateDiff
from seppo_video.families.animatediff import AnimateDiffModel
from tests import tiny
from tests.contract.families import sdxl
from tests.models import original_layout


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """`base` is a diffusers folder, `one.safetensors` the same base in one file, `rest` what the file lacks."""
    room = tmp_path_factory.mktemp("single")
    pipeline = tiny.stable_diffusion(room / "words")
    pipeline.save_pretrained(room / "base")
    shutil.copytree(room / "base", room / "rest", ignore=shutil.ignore_patterns("*.safetensors"))
    original_layout.write(
        room / "one.safetensors",
        original_layout.unet(pipeline.unet),
        original_layout.vae(pipeline.vae),
        original_layout.clip(pipeline.text_encoder, "cond_stage_model.transformer."),
        {"model_ema.decay": torch.ones(())},
    )
    return room


def single(room: Path, **options) -> StableDiffusionModel:
    return StableDiffusionModel(base=str(room / "one.safetensors"), single_file_config=str(room / "rest"), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_loads_as_the_folder_that_it_was_written_from(room, dtype):
    expected = StableDiffusion.load(StableDiffusionModel(base=str(room / "base")), dtype)
    found = StableDiffusion.load(single(room), dtype)
    for name in ("unet", "vae", "text_encoder"):
        one, other = (adapter.pipeline.components[name].state_dict() for adapter in (found, expected))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in other)
    assert torch.equal(found.encode_prompts(["a red wall"])["text"], expected.encode_prompts(["a red wall"])["text"])
    assert found.scheduler.config == expected.scheduler.config
    assert (
        read_draft(None, ImageConfig, {"model.base": single(room).base}).values["model"]["family"] == "stable-diffusion"
    )


def assert_equal(found, expected) -> None:
    for name, module in expected.pipeline.components.items():
        if isinstance(module, nn.Module):
            one, other = found.pipeline.components[name].state_dict(), module.state_dict()
            assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in other), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:AnimateDiff's motion modules")
def test_with_motion_between_its_layers(room):
    tiny.motion().save_pretrained(room / "motion")
    model = AnimateDiffModel(base=str(room / "base"), motion_adapter=str(room / "motion"))
    file = replace(model, base=single(room).base, single_file_config=single(room).single_file_config)
    assert_equal(AnimateDiff.load(file, torch.float32), AnimateDiff.load(model, torch.float32))


@pytest.mark.slow
def test_sdxl(tmp_path):
    pipeline = sdxl.pipeline(tmp_path / "words")
    # by their widths the two text encoders are told apart
    config = pipeline.text_encoder_2.config.to_dict() | {"hidden_size": 32, "projection_dim": 32}
    pipeline.text_encoder_2 = tiny.shake(CLIPTextModelWithProjection(CLIPTextConfig(**config)), seed=5).eval()
    pipeline.save_pretrained(tmp_path / "base")
    shutil.copytree(tmp_path / "base", tmp_path / "rest", ignore=shutil.ignore_patterns("*.safetensors"))
    file = original_layout.write(
        tmp_path / "one.safetensors",
        original_layout.unet(pipeline.unet),
        original_layout.vae(pipeline.vae),
        original_layout.clip(pipeline.text_encoder, "conditioner.embedders.0.transformer."),
        original_layout.open_clip(pipeline.text_encoder_2, "conditioner.embedders.1.model."),
    )
    model = StableDiffusionXLModel(base=str(file), single_file_config=str(tmp_path / "rest"))
    expected = StableDiffusionXL.load(StableDiffusionXLModel(base=str(tmp_path / "base")), torch.float32)
    found = StableDiffusionXL.load(model, torch.float32)
    assert_equal(found, expected)
    assert found.pipeline.config.force_zeros_for_empty_prompt == expected.pipeline.config.force_zeros_for_empty_prompt


def test_a_tensor_that_the_file_lacks_or_has_too_many_of_is_noticed(room, tmp_path):
    tensors = load_file(room / "one.safetensors")
    key = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    for changed, said in [
        ({name: tensor for name, tensor in tensors.items() if name != key}, "the unet of base=.* lacks tensors"),
        (tensors | {"model.diffusion_model.more.weight": torch.ones(2, 3)}, "holds .* numbers for its denoiser"),
        (tensors | {key: torch.ones(2, 2, 3, 3)}, "does not fit its config"),
    ]:
        save_file(changed, tmp_path / "one.safetensors")
        with pytest.raises(ValueError, match=said):
            StableDiffusion.load(replace(single(room), base=str(tmp_path / "one.safetensors")), torch.float32)


def test_the_vocabulary_must_come_from_a_folder_and_belongs_to_the_fingerprint(room, tmp_path):
    model = single(room)
    problems = replace(model, single_file_config=None).base_problems(Path(model.base))
    assert len(problems) == 1 and "tokenizer will be used, as model.single_file_config" in problems[0]
    (tmp_path / "tokenizer").mkdir()
    (problem,) = replace(model, single_file_config=str(tmp_path)).base_problems(Path(model.base))
    assert "tokenizer: holds no vocabulary" in problem
    adapter, before = StableDiffusion.load(model, torch.float32), None
    for added in ("", "x\n"):
        rest = shutil.copytree(room / "rest", tmp_path / f"rest{len(added)}")
        (rest / "tokenizer" / "merges.txt").write_text(f"#version: 0.2\n{added}")
        now = frozen_fingerprint(adapter, replace(model, single_file_config=str(rest)))
        assert now != before
        before = now


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["conditioner.embedders.1.model.ln_final.weight"], "stable-diffusion-xl"),
        (["model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale"], "flux-1-schnell"),
        (["double_blocks.0.img_attn.norm.key_norm.scale", "guidance_in.in_layer.weight"], "flux-1-dev"),
        (["cond_stage_model.model.ln_final.weight"], "Stable Diffusion 2"),
        (["lora_unet_down_blocks_0.lora_up.weight"], "is a LoRA; name it as model.lora"),
        (["weight"], "is no whole Stable Diffusion 1.x, SDXL or Flux"),
    ],
)
def test_what_a_file_is_by_its_names(tmp_path, names, found):
    file = tmp_path / "x.safetensors"
    save_file({name: torch.ones(1) for name in [*names, "model.diffusion_model.out.0.weight"]}, file)
    header = read_header(file)
    if found.startswith(("stable", "flux")):
        assert numbers_of(layout_of(file, header), header) == found
    else:
        with pytest.raises(ValueError, match=found):
            layout_of(file, header)


def test_other_files_are_never_read(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"\x80\x02")
    with pytest.raises(ValueError, match="can run code"):
        read_header(tmp_path / "x.ckpt")
