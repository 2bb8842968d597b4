"""A wish for kernels that cannot be met is an error that names what can."""

import pytest
import torch
from torch import nn

from seppo_core.attention import set_attention


def test_xformers_is_refused_off_cuda_though_it_imports_anywhere():
    with pytest.raises(ValueError, match=r"needs CUDA, this run is on cpu; use loop\.attention=sdpa"):
        set_attention(nn.Linear(1, 1), "xformers", torch.device("cpu"))


def test_sdpa_needs_nothing():
    set_attention(nn.Linear(1, 1), "sdpa", torch.device("cpu"))
