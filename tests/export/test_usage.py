"""The code that a model card shows, where a run did not take its base as it is."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from seppo_core.export.snippets import pipeline_code, script, usage
from seppo_core.models.patch_vae import PatchVAE
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_image.sd3 import StableDiffusion3
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny
from tests.contract.families import sd3
from tests.contract.rows import FAMILIES
from tests.contract.shown import ours, shown, theirs, trained

ROOT = Path(__file__).parents[2]


def test_the_shown_code_takes_the_run_s_vae(tmp_path):
    """Another VAE than the base's own, and the base's branch."""
    tiny.stable_diffusion(tmp_path / "words").save_pretrained(tmp_path / "base", variant="fp16")
    tiny.vae(scaling_factor=0.25).save_pretrained(tmp_path / "vae")
    sources = {"base": str(tmp_path / "base"), "vae": str(tmp_path / "vae"), "revision": "main", "variant": "fp16"}
    adapter = StableDiffusion.load(StableDiffusionModel(**sources), torch.float32)
    folder = trained(adapter, "lora", "all", tmp_path / "export")
    family = next(family for family in FAMILIES if family.name == "stable-diffusion")
    pipe = shown(adapter, family, "lora", sources, folder)
    assert pipe.vae.config.scaling_factor == 0.25
    code = script(usage(adapter, "lora", sources))
    assert 'revision="main", variant="fp16", vae=vae)' in code


def test_the_shown_code_leaves_out_the_t5_that_the_policy_never_heard(tmp_path):
    family = next(family for family in FAMILIES if family.name == "sd3")
    base = tmp_path / "base"
    sd3.pipeline(tmp_path / "words").save_pretrained(base)
    adapter = StableDiffusion3.load(replace(family.model, base=str(base), t5=False), torch.float32)
    folder = trained(adapter, "lora", "all", tmp_path / "export")
    found = theirs(shown(adapter, family, "lora", {"base": str(base)}, folder), family)
    torch.testing.assert_close(found, ours(adapter, family), rtol=1e-3, atol=1e-4)


def test_a_script_has_its_imports_in_front():
    lines = ["from b import B", "x = B()", "import c.d", "from a import Y", "from b import A", "y = Y(x)"]
    assert script(lines) == "import c.d\nfrom a import Y\nfrom b import A, B\n\nx = B()\ny = Y(x)"


@pytest.mark.slow
def test_the_code_imports_a_vae_that_diffusers_does_not_know(tmp_path):
    """In a process of its own, for here the class is imported already."""
    whole = tiny.stable_diffusion(tmp_path / "words")
    pipeline = StableDiffusionPipeline(
        **whole.components | {"vae": PatchVAE()}, requires_safety_checker=False
    )  # fmt: skip
    pipeline.save_pretrained(tmp_path / "base")
    pipeline.vae.save_pretrained(tmp_path / "vae")
    for sources in ({"base": str(tmp_path / "base")}, {"base": str(tmp_path / "base"), "vae": str(tmp_path / "vae")}):
        code = script(pipeline_code(pipeline, sources)) + "\nprint(type(pipe.vae).__name__)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.split() == ["PatchVAE"]
    without = code.replace("import seppo_core.models.patch_vae\n", "").replace(
        "from seppo_core.models.patch_vae import", "#"
    )
    assert subprocess.run([sys.executable, "-c", without], capture_output=True, cwd=ROOT).returncode
