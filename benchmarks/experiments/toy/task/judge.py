"""The toy task's exact score as a judge, for `python -m benchmarks anchor RUN --judges toy`."""

from collections.abc import Sequence
from hashlib import sha256

import torch
from einops import rearrange

from benchmarks.evaluation.metric_adapters import Judge, Sample
from seppo_core.toy.score import score_images, score_videos


class ToyJudge(Judge):
    """Scores toy pictures and clips exactly. The prompts must be captions of the toy task."""

    metric = "toy"
    fingerprint = sha256(b"toy score, revision 1").hexdigest()
    about = {"metric": metric}  # noqa: RUF012
    at_once = 64

    def values(self, samples: Sequence[Sample]) -> list[dict[str, float]]:
        pixels = torch.stack([sample.frames for sample in samples]).float() / 127.5 - 1
        captions = [sample.prompt for sample in samples]
        if pixels.shape[1] == 1:
            scores = score_images(pixels[:, 0], captions)
        else:
            scores = score_videos(rearrange(pixels, "n f c h w -> n c f h w"), captions)
        return [{self.metric: score} for score in scores.double().tolist()]
