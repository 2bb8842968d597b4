"""An image scorer on the frames of a clip."""

import pytest
import torch
from torch import nn

from seppo_core.judging.base import Scorer
from seppo_core.judging.per_frame import PerFrame
from tests.benchmarks.video_metrics.clips import clip


class Brightness(Scorer):
    """Mean brightness plus the prompt's length; remembers how many pictures it saw."""

    name = "brightness"

    def __init__(self, gain: float = 1.0):
        super().__init__(nn.Linear(1, 1), (), {"gain": gain})
        self.seen = 0

    def score_batch(self, images, prompts):
        self.seen += len(images)
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


@pytest.mark.filterwarnings("ignore:Image.Image.getdata")
def test_evenly_spread_frames():
    scorer = Brightness()
    found = PerFrame(scorer, frames=3).measure(flat(0, 99, 30, 99, 60), "")
    assert scorer.seen == 3 and found["brightness_frame_mean"] == pytest.approx(30)
    with pytest.raises(ValueError, match="between 2 and 2"):
        PerFrame(scorer, frames=3).measure(clip(2), "")
    with pytest.raises(ValueError, match="at least 2"):
        PerFrame(scorer, frames=1)


def test_fingerprint_is_that_of_scorer_and_frames():
    prints = {PerFrame(Brightness(gain), frames).fingerprint() for gain in (1.0, 2.0) for frames in (None, 4)}
    assert len(prints) == 4
