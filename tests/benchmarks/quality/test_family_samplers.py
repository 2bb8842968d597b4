"""Models are recognised by the pipeline they were saved from, and parts are put on them as their family does."""

import numpy as np
import pytest
import torch

from benchmarks.evaluation.models import ModelSpec
from benchmarks.evaluation.protocols import PROTOCOLS, with_changes
from benchmarks.evaluation.samplers import AdapterSampler, Job, load_sampler
from seppo_core.export.weights import write_lora
from seppo_core.models.tuning import load_trainable_state, trainable_state, tune_lora
from seppo_image.families.pixart import PixArtSigmaModel
from seppo_image.pixart import PixArtSigma
from seppo_video.animatediff_sdxl import AnimateDiffXL
from tests.contract.families import animatediff_sdxl, pixart, sdxl

CPU = torch.device("cpu")
SETTINGS = {"height": 64, "width": 64, "steps": 2, "seeds": (0,), "references": False, "guidance_scale": 3.0}


def test_a_lora_in_peft_s_layout_is_put_on(tmp_path):
    pixart.pipeline(tmp_path / "words").save_pretrained(tmp_path / "base")
    adapter = PixArtSigma.load(PixArtSigmaModel(base=str(tmp_path / "base")), torch.float32)
    tune_lora(adapter.denoiser, adapter.lora_targets["all"], rank=2)
    load_trainable_state(adapter.denoiser, {k: v + 0.2 for k, v in trainable_state(adapter.denoiser).items()})
    write_lora(adapter, tmp_path / "lora")
    protocol = with_changes(PROTOCOLS["smoke-image"], SETTINGS)
    drawn = []
    for parts in ((), (("lora", str(tmp_path / "lora")),)):
        sampler = load_sampler(ModelSpec("m", str(tmp_path / "base"), parts=parts), protocol, CPU, "float32")
        assert isinstance(sampler, AdapterSampler)
        drawn.append(np.asarray(sampler.draw([Job("a red wall", 0)])).astype(int))
    assert np.abs(drawn[0] - drawn[1]).max() > 1


def test_an_image_base_with_motion_is_a_video_model(tmp_path):
    sdxl.pipeline(tmp_path / "words").save_pretrained(tmp_path / "base")
    animatediff_sdxl.motion().save_pretrained(tmp_path / "motion")
    protocol = with_changes(PROTOCOLS["smoke-video"], SETTINGS | {"frames": 4})
    spec = ModelSpec("m", str(tmp_path / "base"), parts=(("motion", str(tmp_path / "motion")),))
    with pytest.warns(UserWarning, match="linear betas"):
        sampler = load_sampler(spec, protocol, CPU, "float32")
    assert isinstance(sampler.adapter, AnimateDiffXL)
    assert sampler.draw([Job("a red wall", 0)]).shape == (1, 4, 64, 64, 3)
