"""`plan` for videos: sizes that were published, captions' shapes, every config of ours."""

from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch

from seppo_core.config.loader import load_config
from seppo_core.config.schema import TuneConfig
from seppo_core.models.tuning import trainable_parameters
from seppo_core.plan.architecture import model_numbers, pipeline_architecture
from seppo_core.plan.build import build_adapter, build_model
from seppo_core.training.setup import tune
from seppo_video.__main__ import main
from seppo_video.config import VideoConfig, VideoModel
from tests.contract.rows import FAMILIES as CONTRACT
from tests.plan.cases import ROOT, check_condition, check_plan, parameters

BASES = VideoModel.bases
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs/video").glob("*.yaml"))
CONTRACT_VIDEO = [row for row in CONTRACT if row.is_video]
PUBLISHED = {
    # millions of weights: of the model cards, papers and weight files
    "THUDM/CogVideoX-2b": {"transformer": 1693.8, "vae": 215.6, "text_encoder": 4762.0},
    "THUDM/CogVideoX-5b": {"transformer": 5570.0},
    "THUDM/CogVideoX1.5-5B": {"transformer": 5570.0},
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": {"transformer": 1419.0, "text_encoder": 5681.0, "vae": 126.9},
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": {"transformer": 14288.5},
    "Lightricks/LTX-Video": {"transformer": 1923.4, "vae": 419.2},
    "hunyuanvideo-community/HunyuanVideo": {"transformer": 12821.0, "vae": 246.5, "text_encoder": 7505.0},
}
MOTION = {
    "guoyww/animatediff-motion-adapter-v1-5": 417.1,
    "guoyww/animatediff-motion-adapter-v1-5-2": 453.2,
    "guoyww/animatediff-motion-adapter-v1-5-3": 417.1,
}


@pytest.mark.parametrize("base", PUBLISHED, ids=lambda base: base.partition("/")[2])
def test_published_bases_have_their_published_sizes(base):
    kind = getattr(diffusers, pipeline_architecture(base, BASES).index["_class_name"])
    counted = parameters(base, BASES, kind)
    for name, millions in PUBLISHED[base].items():
        assert counted[name] == pytest.approx(millions, rel=0.002), name


@pytest.mark.parametrize("name", MOTION, ids=lambda name: name.partition("/")[2])
def test_published_motion_modules_have_their_published_sizes(name):
    with torch.device("meta"):
        modules = build_model(model_numbers(name, BASES), torch.float16)
    assert sum(p.numel() for p in modules.parameters()) / 1e6 == pytest.approx(MOTION[name], rel=0.005)


@pytest.mark.parametrize("row", CONTRACT_VIDEO, ids=lambda row: row.name)
@pytest.mark.filterwarnings("ignore:AnimateDiff's motion modules")
def test_captions_have_the_shapes_that_encoders_give(row, tmp_path):
    check_condition(row.adapter(tmp_path / "words"))


def test_every_family_and_every_config_s_base_is_known():
    for path in CONFIGS:
        model = load_config(ROOT / path, VideoConfig).model
        assert pipeline_architecture(model.base, BASES).parts, path
        motion = model.parts().get("motion_adapter")
        assert motion is None or model_numbers(motion, BASES), path


def test_motion_modules_alone_are_their_own_share():
    config = load_config(ROOT / "configs/video/animatediff_chronomagic_sft.yaml", VideoConfig)
    trained = {}
    for scope in ("all", "motion", "spatial"):
        adapter = build_adapter(config, torch.float32)
        tune(adapter, replace(config, tune=TuneConfig(mode="full", scope=scope)))
        trained[scope] = sum(parameter.numel() for parameter in trainable_parameters(adapter.denoiser).values())
    assert trained["motion"] / 1e6 == pytest.approx(MOTION[config.model.motion_adapter], rel=0.005)
    assert trained["spatial"] / 1e6 == pytest.approx(859.52, rel=0.001)
    assert trained["all"] == trained["motion"] + trained["spatial"]


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: Path(path).stem)
def test_every_config_plans(path, capsys):
    check_plan(main, path, VideoConfig, capsys)
