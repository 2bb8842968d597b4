"""The shape annotations of the core are live in these tests: a wrong shape is refused where it enters."""

import pytest
import torch
from jaxtyping import TypeCheckError

from seppo_core.methods.losses import squared_error
from seppo_core.models.noise_path import FlowNoisePath


def test_shapes_are_checked():
    x_0, noise = torch.zeros(2, 3), torch.zeros(2, 4)
    with pytest.raises(TypeCheckError):
        FlowNoisePath().add_noise(x_0, noise, torch.zeros(2))
    with pytest.raises(TypeCheckError):
        FlowNoisePath().add_noise(x_0, x_0, torch.zeros(3))
    with pytest.raises(TypeCheckError):
        squared_error(x_0, noise)
