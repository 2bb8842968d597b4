"""An image scorer on the frames of a clip."""

import pytest
import torch
from torch import nn

from seppo_core.judging.base import Scorer
from seppo_core.judging.per_frame import PerFrame


class Brightness(Scorer):
    """Mean brightness plus the prompt's length."""

    name = "brightness"

    def __init__(self, gain: float = 1.0):
        super().__init__(nn.Linear(1, 1), (), {"gain": gain})

    def score_batch(self, images, prompts):
        means = [sum(image.convert("L").getdata()) / (image.width * image.height) for image in images]
        return torch.tensor([mean + len(prompt) for mean, prompt in zip(means, prompts, strict=True)])


def flat(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)


@pytest.mark.filterwarnings("ignore:Image.Image.getdata")
def test_mean_minimum_and_deviation():
    found = PerFrame(Brightness()).measure(flat(10, 20, 60), "abc")
    assert found == pytest.approx(
        {
            "brightness_frame_mean": 33,
            "brightness_frame_min": 13,
            "brightness_frame_sd": ((20**2 + 10**2 + 30**2) / 3) ** 0.5,
        }
    )


def test_fingerprint_is_that_of_the_scorer():
    assert len({PerFrame(Brightness(gain)).fingerprint() for gain in (1.0, 2.0)}) == 2
