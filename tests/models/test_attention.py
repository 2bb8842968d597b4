"""A wish for kernels that cannot be met is an error that names what can. What each family can: the contract."""

import pytest
import torch

from seppo_core.models import attention
from seppo_core.models.attention import set_attention
from seppo_image.pixart import PixArtSigma
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny
from tests.contract.families import pixart


def test_xformers_is_refused_off_cuda_though_it_imports_anywhere(tmp_path):
    adapter = StableDiffusion(tiny.stable_diffusion(tmp_path))
    with pytest.raises(ValueError, match=r"needs CUDA, this run is on cpu; use loop\.attention=sdpa"):
        set_attention(adapter, "xformers", torch.device("cpu"))


def test_xformers_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    adapter = StableDiffusion(tiny.stable_diffusion(tmp_path))
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed: .*seppo\[gpu\].* or use sdpa"):
        set_attention(adapter, "xformers", torch.device("cuda"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_attention_that_xformers_cannot_compute_is_refused_anywhere(tmp_path, device):
    adapter = PixArtSigma(pixart.pipeline(tmp_path))
    processors = {name: type(one) for name, one in adapter.denoiser.attn_processors.items()}
    with pytest.raises(ValueError, match=r"cannot compute the attention of PixArtSigma.*; use loop\.attention=sdpa"):
        set_attention(adapter, "xformers", torch.device(device))
    assert {name: type(one) for name, one in adapter.denoiser.attn_processors.items()} == processors


def test_sdpa_needs_nothing(tmp_path):
    set_attention(PixArtSigma(pixart.pipeline(tmp_path)), "sdpa", torch.device("cpu"))
