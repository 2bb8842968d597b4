"""The code that a model card shows, run as it stands: its pipeline draws what the trained policy draws."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.contract.families import animatediff_sdxl, sdxl
from tests.contract.rows import FAMILIES
from tests.contract.shown import ours, shown, theirs, trained

BY_NAME = {family.name: family for family in FAMILIES}


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_shown_code_draws_as_the_policy(family, tmp_path, kind):
    base = tmp_path / "base"
    family.pipeline(tmp_path / "words").save_pretrained(base)
    adapter = family.wrap(family.load_plain(base))
    start = ours(adapter, family)
    folder = trained(adapter, kind, "all", tmp_path / "export")
    expected = ours(adapter, family)
    found = theirs(shown(adapter, family, kind, {"base": str(base)}, folder), family)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert (found - start).abs().max() > 0.01


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> Path:
    """For each animated family an image base, a motion adapter and a saved pipeline of the two."""
    folder = tmp_path_factory.mktemp("bases")
    tiny.stable_diffusion(folder / "words").save_pretrained(folder / "animatediff" / "image")
    tiny.motion().save_pretrained(folder / "animatediff" / "motion")
    tiny.animatediff(folder / "words").save_pretrained(folder / "animatediff" / "saved")
    sdxl.pipeline(folder / "words").save_pretrained(folder / "animatediff-sdxl" / "image")
    animatediff_sdxl.motion().save_pretrained(folder / "animatediff-sdxl" / "motion")
    animatediff_sdxl.pipeline(folder / "words").save_pretrained(folder / "animatediff-sdxl" / "saved")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scope"), [("lora", "all"), ("lora", "motion"), ("lora", "spatial"), ("motion", "motion"), ("full", "all")]
)
@pytest.mark.parametrize("base", ["image", "saved", "saved, other motion"])
@pytest.mark.parametrize("name", ["animatediff", "animatediff-sdxl"])
@pytest.mark.filterwarnings("ignore:AnimateDiff's motion modules were trained on linear betas")
def test_the_shown_code_of_base_and_motion_draws_as_the_policy(bases, tmp_path, name, base, kind, scope):
    family = BY_NAME[name]
    sources = {"base": str(bases / name / base.split(",")[0])}
    if base != "saved":
        sources["motion_adapter"] = str(bases / name / "motion")
    adapter = family.adapter_class.load(replace(family.model, **sources), torch.float32)
    folder = trained(adapter, kind, scope, tmp_path / "export")
    expected = ours(adapter, family)
    found = theirs(shown(adapter, family, kind, sources, folder), family)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wan", "wan-flow-match"])
def test_the_shown_code_samples_at_the_run_s_shift(tmp_path, name):
    family, base = BY_NAME[name], tmp_path / "base"
    family.pipeline(tmp_path / "words").save_pretrained(base)
    adapter = family.adapter_class.load(replace(family.model, base=str(base), flow_shift=9.0), torch.float32)
    folder = trained(adapter, "lora", "all", tmp_path / "export")
    found = theirs(shown(adapter, family, "lora", {"base": str(base)}, folder), family)
    torch.testing.assert_close(found, ours(adapter, family), rtol=1e-3, atol=1e-4)
