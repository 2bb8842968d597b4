"""A base in one file, as the first release laid it out, is the base that it was written from."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from seppo_core.config.loader import read_draft
from seppo_core.config.single_file import layout_of, numbers_of, read_header
from seppo_core.models.fingerprint import frozen_fingerprint
from seppo_core.plan.architecture import file_architecture
from seppo_image.config import ImageConfig
from seppo_image.families.flux import FluxModel
from seppo_image.families.sdxl import StableDiffusionXLModel
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_image.flux import Flux
from seppo_image.sdxl import StableDiffusionXL
from seppo_image.stable_diffusion import StableDiffusion
from seppo_video.animatediff import AnimateDiff
from seppo_video.families.animatediff import AnimateDiffModel
from tests import tiny
from tests.contract.families import flux, sdxl
from tests.models import original_layout


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """`base` is a diffusers folder, `one.safetensors` the same base in one file, `rest` what the file lacks.

    `two.safetensors` holds the same as a Stable Diffusion 2 does.
    """
    room = tmp_path_factory.mktemp("single")
    pipeline = original_layout.lay_out(room, {"model_ema.decay": torch.ones(())})
    original_layout.write(
        room / "two.safetensors",
        original_layout.unet(pipeline.unet),
        original_layout.vae(pipeline.vae),
        original_layout.open_clip(pipeline.text_encoder, "cond_stage_model.model."),
    )
    return room


def single(room: Path, file: str = "one.safetensors", rest: str = "rest") -> StableDiffusionModel:
    return StableDiffusionModel(base=str(room / file), single_file_config=str(room / rest))


@pytest.mark.parametrize(
    ("file", "dtype"),
    [("one.safetensors", torch.float32), ("one.safetensors", torch.bfloat16), ("two.safetensors", torch.float32)],
)
def test_a_file_loads_as_the_folder_that_it_was_written_from(room, file, dtype):
    expected = StableDiffusion.load(StableDiffusionModel(base=str(room / "base")), dtype)
    found = StableDiffusion.load(single(room, file), dtype)
    for name in ("unet", "vae", "text_encoder"):
        one, other = (adapter.pipeline.components[name].state_dict() for adapter in (found, expected))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in other)
    assert torch.equal(found.encode_prompts(["a red wall"])["text"], expected.encode_prompts(["a red wall"])["text"])
    assert found.scheduler.config == expected.scheduler.config
    draft = read_draft(None, ImageConfig, {"model.base": single(room, file).base})
    assert draft.values["model"]["family"] == "stable-diffusion"


def test_what_a_stable_diffusion_2_predicts_is_known_or_asked_for(room, tmp_path):
    (tmp_path / "rest").mkdir()
    shutil.copytree(room / "rest" / "tokenizer", tmp_path / "rest" / "tokenizer")
    tensors = load_file(room / "two.safetensors")
    for step, prediction in ((875_000, "epsilon"), (110_000, "v_prediction"), (None, None)):
        more = {} if step is None else {"global_step": torch.tensor(step)}
        save_file(tensors | more, tmp_path / "two.safetensors")
        model = single(tmp_path, "two.safetensors")
        problems = model.base_problems(Path(model.base))
        numbers = file_architecture(Path(model.base), None, model.bases)
        if prediction is None:
            (problem,) = problems
            assert "does not say whether it predicts noise or velocity" in problem
            continue
        assert not problems and numbers.parts["scheduler"].get("prediction_type", "epsilon") == prediction
    # the folder's scheduler decides, whatever the file says
    shutil.copytree(room / "rest", tmp_path / "rest", dirs_exist_ok=True)
    assert not model.base_problems(Path(model.base))
    config = tmp_path / "rest" / "scheduler" / "scheduler_config.json"
    for prediction in ("epsilon", "v_prediction"):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"prediction_type": prediction}))
        assert StableDiffusion.load(model, torch.float32).path.prediction == prediction


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


@pytest.mark.slow
def test_flux(tmp_path):
    """At the published width, which diffusers' translation has written in; one block of each kind, 1 GB."""
    small = flux.pipeline(tmp_path / "words")
    small.save_pretrained(tmp_path / "rest")
    config = dict(small.transformer.config) | {"num_attention_heads": 24, "attention_head_dim": 128}
    with torch.device("meta"):
        wide = FluxTransformer2DModel.from_config(config | {"axes_dims_rope": (16, 56, 56)})
    wide = wide.to(torch.bfloat16).to_empty(device="cpu").requires_grad_(False)
    for number, parameter in enumerate(wide.parameters()):
        # its halves differ, so that they cannot change places unseen
        first, second = parameter.chunk(2)
        first.fill_(number), second.fill_(-number)
    shutil.rmtree(tmp_path / "rest" / "transformer")
    wide.save_config(tmp_path / "rest" / "transformer")
    file = original_layout.write(tmp_path / "one.safetensors", original_layout.flux(wide))
    model = FluxModel(base=str(file), single_file_config=str(tmp_path / "rest"), dtype="bfloat16")
    assert not model.base_problems(file)
    found = Flux.load(model, torch.bfloat16).pipeline.transformer.state_dict()
    expected = wide.state_dict()
    assert found.keys() == expected.keys() and len(expected) == len(list(wide.parameters()))
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


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
        (["cond_stage_model.model.ln_final.weight"], "stable-diffusion-2-1"),
        (["lora_unet_down_blocks_0.lora_up.weight"], "is a LoRA; name it as model.lora"),
        (["weight"], "is no whole Stable Diffusion, SDXL or Flux"),
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
