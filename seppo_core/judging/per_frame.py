"""Any image scorer on the frames of a clip: how good it is on the whole, at its worst, and how much it wavers."""

import torch

from seppo_core.judging.base import Scorer
from seppo_core.judging.metric import ClipMetric
from seppo_core.judging.video_pixels import Frames


class PerFrame(ClipMetric):
    """Mean, minimum and deviation (over n) of an image scorer over a clip's frames."""

    name = "per_frame"

    def __init__(self, scorer: Scorer):
        super().__init__(scorer.model, (), {"frames": "all", "scorer": scorer.fingerprint()})
        self.files = dict(scorer.files)
        self.scorer = scorer

    @property
    def column(self) -> str:
        return self.scorer.column

    def measure(self, frames: Frames, prompt: str) -> dict[str, float]:
        """`<scorer>_frame_mean`, `_frame_min` and `_frame_sd`."""
        scores = self.scorer.score(frames, [prompt] * len(frames)).double()
        return {
            f"{self.column}_frame_mean": scores.mean().item(),
            f"{self.column}_frame_min": scores.min().item(),
            f"{self.column}_frame_sd": torch.std(scores, correction=0).item(),
        }
