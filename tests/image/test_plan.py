"""`plan` for images: sizes that were published, captions' shapes, every config of ours."""

from pathlib import Path

import diffusers
import pytest
from peft import LoraConfig, get_peft_model_state_dict

from seppo_core.config.loader import load_config
from seppo_core.models.tuning import trainable_parameters, tune_lora
from seppo_core.plan.architecture import known, pipeline_architecture
from seppo_image.__main__ import main
from seppo_image.config import ImageConfig, ImageModel
from tests.contract.rows import FAMILIES as CONTRACT
from tests.plan.cases import ROOT, check_condition, check_plan, parameters

BASES = ImageModel.bases
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs/image").glob("*.yaml"))
QUICK = ["configs/image/sd15_pickapic_sft.yaml"]
CONTRACT_IMAGE = [row for row in CONTRACT if not row.is_video]
PUBLISHED = {
    # millions of weights: of the model cards, papers and weight files
    "stable-diffusion-v1-5/stable-diffusion-v1-5": {"unet": 859.52, "vae": 83.65, "text_encoder": 123.06},
    "stabilityai/stable-diffusion-2-1": {"unet": 865.91, "text_encoder": 340.39},
    "stabilityai/stable-diffusion-xl-base-1.0": {"unet": 2567.46, "text_encoder_2": 694.66},
    "stabilityai/stable-diffusion-3-medium-diffusers": {"transformer": 2028.0, "text_encoder_3": 4762.0},
    "stabilityai/stable-diffusion-3.5-medium": {"transformer": 2243.0, "vae": 83.82},
    "stabilityai/stable-diffusion-3.5-large": {"transformer": 8056.0},
    "black-forest-labs/FLUX.1-dev": {"transformer": 11901.41, "text_encoder_2": 4762.0},
    "black-forest-labs/FLUX.1-schnell": {"transformer": 11891.18},
    "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers": {"transformer": 1604.0, "text_encoder": 2614.0},
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": {"transformer": 610.9},
    "Qwen/Qwen-Image": {"transformer": 20430.4, "text_encoder": 8292.17},
}


@pytest.mark.parametrize("base", PUBLISHED, ids=lambda base: base.partition("/")[2])
def test_published_bases_have_their_published_sizes(base):
    kind = getattr(diffusers, pipeline_architecture(base, BASES).index["_class_name"])
    counted = parameters(base, BASES, kind)
    for name, millions in PUBLISHED[base].items():
        assert counted[name] == pytest.approx(millions, rel=0.002), name


@pytest.mark.parametrize("row", CONTRACT_IMAGE, ids=lambda row: row.name)
def test_captions_have_the_shapes_that_encoders_give(row, tmp_path):
    check_condition(row.adapter(tmp_path / "words"))


def test_every_family_and_every_config_s_base_is_known():
    for path in CONFIGS:
        base = load_config(ROOT / path, ImageConfig).model.base
        assert pipeline_architecture(base, BASES).parts, path
    assert len(known(BASES)) >= 10


def test_a_lora_has_as_many_weights_as_peft_saves(tmp_path):
    row = next(row for row in CONTRACT_IMAGE if row.name.startswith("sd3"))
    adapter = row.adapter(tmp_path / "words")
    tune_lora(adapter.denoiser, adapter.lora_targets["all"], rank=3)
    ours = sum(parameter.numel() for parameter in trainable_parameters(adapter.denoiser).values())
    plain = row.adapter(tmp_path / "words").denoiser
    plain.add_adapter(LoraConfig(r=3, target_modules=adapter.lora_targets["all"]), adapter_name="own")
    saved = get_peft_model_state_dict(plain, adapter_name="own")
    assert ours == sum(tensor.numel() for tensor in saved.values())


@pytest.mark.slow
@pytest.mark.parametrize("path", QUICK, ids=lambda path: Path(path).stem)
def test_a_quick_config_plans(path, capsys):
    plan = check_plan(main, path, ImageConfig, capsys)
    # 2 x 0.4 TMACs a pass are what others count for this UNet at 64 x 64 latents
    assert plan["flops"]["forward"] == pytest.approx(0.803e12, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in CONFIGS if path not in QUICK], ids=lambda path: Path(path).stem)
def test_every_other_config_plans(path, capsys):
    check_plan(main, path, ImageConfig, capsys)
