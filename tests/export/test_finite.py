"""Exports and samples whose values are not finite are refused by name: black pictures and dead weights tell nobody."""

import pytest
import torch

from seppo_core.export.sample_folder import SampleFolder
from seppo_core.export.samples import draw_samples
from seppo_core.export.weights import write_full
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny


def test_a_weight_that_overflows_in_the_export_s_precision_is_named(tmp_path):
    adapter = StableDiffusion(tiny.stable_diffusion(tmp_path / "words"))
    with torch.no_grad():
        adapter.denoiser.conv_in.bias[0] = 1e5
    with pytest.raises(ValueError, match=r"'conv_in.bias' of the unet is not finite in torch.float16; .*bfloat16"):
        write_full(adapter, tmp_path / "half", torch.float16)
    assert not (tmp_path / "half").exists()


def test_pixels_that_are_not_finite_are_named(tmp_path):
    def draw(pairs):
        return torch.stack([torch.full((3, 8, 8), float("nan") if seed == 1 else 0.0) for _, seed in pairs])

    with pytest.raises(FloatingPointError, match=r"seed 1 of 'a red wall' .*drawn black"):
        asked = [("a red wall", 0), ("a red wall", 1)]
        draw_samples(draw, asked, SampleFolder(tmp_path, {}), lambda stem, frames: stem, 2)
