"""What a judge says of an iteration's samples, and what training makes of it: winners and losers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from seppo_core.config.training import LoopConfig
from seppo_core.judging.in_memory import Media
from seppo_core.judging.sample_judge import Keys, SampleJudge, open_judge
from seppo_core.training.sample_buffer import SampleBuffer

KEYS = Keys("loop.judge", "loop.judge_column", "loop.judge_places")


def open_loop_judge(loop: LoopConfig, media: Media, folder: Path, device: str | torch.device) -> SampleJudge:
    """The judge that the config names. ValueError or FileNotFoundError if it cannot be had: nothing has begun yet that
    could be lost."""
    return open_judge(
        loop.judge, media.kind, media.read, folder / "judge.log", column=loop.judge_column, places=loop.judge_places,
        device=device, keys=KEYS,
    )  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """The samples of an iteration in `buffer`, those of one caption one after the other, and their scores.

    A sample without a score, which is NaN, is neither the best nor the worst. Where all of a caption's scores are equal
    the first is both, so that nothing is preferred.
    """

    buffer: SampleBuffer
    scores: Float[Tensor, "captions samples"]
    """float64; at least one of a caption is a number."""
    first: int
    """The training position of the first caption."""

    def winners(self, positions: Sequence[int]) -> Tensor:
        """Latents of the best sample at each training position, (b, c, [f], h, w)."""
        return self.buffer.read(self.best(positions))

    def losers(self, positions: Sequence[int]) -> Tensor:
        """Latents of the worst sample at each training position, (b, c, [f], h, w)."""
        return self.buffer.read(self.worst(positions))

    def rewards(self, positions: Sequence[int], clip: float) -> Float[Tensor, " b"]:
        """Of samples that are items themselves, at their positions in the buffer: ½ + ½ clamp((s − μ) / (clip σ), −1,
        1) of each score s, float32, with mean μ and standard deviation σ of its caption's scores (DiffusionNFT, arXiv
        2509.16117, 2025). ½, which prefers nothing, without a score and where all of a caption's are equal."""
        count = self.scores.shape[1]
        found = []
        for group, place in (divmod(position - self.buffer.start, count) for position in positions):
            scores = self.scores[group]
            known = scores[~scores.isnan()]
            spread = float(known.std(correction=0))
            above = float(scores[place] - known.mean()) / (clip * spread) if spread else 0.0
            found.append(0.5 if math.isnan(above) else 0.5 + 0.5 * max(-1.0, min(1.0, above)))
        return torch.tensor(found)

    def best(self, positions: Sequence[int]) -> list[int]:
        """Positions in the buffer of the best samples, the earlier one of equals."""
        return self._places(positions, self.scores.nan_to_num(nan=-torch.inf).argmax(1))

    def worst(self, positions: Sequence[int]) -> list[int]:
        """Positions in the buffer of the worst samples, the earlier one of equals."""
        return self._places(positions, self.scores.nan_to_num(nan=torch.inf).argmin(1))

    def metrics(self) -> dict[str, float]:
        """Mean scores of all samples, of the best and of the worst of each caption; the share without a score, if any
        lacks one."""
        found = {
            "judge_score": float(self.scores.nanmean()),
            "judge_best": float(self.scores.nan_to_num(nan=-torch.inf).amax(1).mean()),
            "judge_worst": float(self.scores.nan_to_num(nan=torch.inf).amin(1).mean()),
        }
        unscored = float(self.scores.isnan().double().mean())
        return found | ({"judge_unscored": unscored} if unscored else {})

    def _places(self, positions: Sequence[int], chosen: Tensor) -> list[int]:
        count = self.scores.shape[1]
        groups = [position - self.first for position in positions]
        return [self.buffer.start + group * count + int(chosen[group]) for group in groups]
