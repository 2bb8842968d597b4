"""Every kind of metric behind one face: samples of a batch in, a dictionary of numbers for each out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from benchmarks.evaluation.columns import mode_of
from benchmarks.evaluation.metrics.catalogue import load_metric
from benchmarks.evaluation.metrics.feature_cache import FeatureCache
from seppo_core.judging.base import Scorer
from seppo_core.judging.catalogue import load_scorer
from seppo_core.judging.columns import Kind
from seppo_core.judging.metric import ClipMetric, FeatureExtractor, PairedMetric
from seppo_core.judging.per_frame import PerFrame

Frames = UInt8[Tensor, "f 3 h w"]
FEATURES = "features"
"""Folder of the cached features of set metrics."""


class Sample(NamedTuple):
    """A sample to judge: frames, prompt, and for some metrics the real sample of the same prompt."""

    sha256: str
    frames: Frames
    prompt: str
    reference: Frames | None = None


class Judge(ABC):
    """One metric, loaded."""

    metric: str
    fingerprint: str
    about: dict[str, object]
    """Everything the numbers depend on but library versions and device."""
    paired = False
    """Whether each sample is compared with its reference."""
    at_once = 8

    @abstractmethod
    def values(self, samples: Sequence[Sample]) -> list[dict[str, float]]:
        """Columns and values of each sample. ValueError if one of them cannot be judged."""

    def truncated(self, prompts: Sequence[str]) -> list[int]:
        """Indices of the prompts whose end is not read."""
        return []


class ImageJudge(Judge):
    """An image scorer on pictures."""

    def __init__(self, metric: str, scorer: Scorer):
        self.metric, self.scorer = metric, scorer
        self.fingerprint, self.about = scorer.fingerprint(), scorer.describe()
        self.at_once = scorer.batch_size

    def values(self, samples: Sequence[Sample]) -> list[dict[str, float]]:
        pictures = torch.cat([sample.frames for sample in samples])
        scores = self.scorer.score(pictures, [sample.prompt for sample in samples])
        return [{self.metric: score} for score in scores.double().tolist()]

    def truncated(self, prompts: Sequence[str]) -> list[int]:
        return self.scorer.truncated(prompts)


class FramesJudge(Judge):
    """An image scorer on the frames of clips."""

    at_once = 1

    def __init__(self, metric: str, scorer: Scorer):
        self.metric, self.per_frame = metric, PerFrame(scorer)
        self.fingerprint, self.about = self.per_frame.fingerprint(), self.per_frame.describe()

    def values(self, samples: Sequence[Sample]) -> list[dict[str, float]]:
        return [self._named(self.per_frame.measure(sample.frames, sample.prompt)) for sample in samples]

    def truncated(self, prompts: Sequence[str]) -> list[int]:
        return self.per_frame.scorer.truncated(prompts)

    def _named(self, values: Mapping[str, float]) -> dict[str, float]:
        # under the metric's own name: a model given with --weights may call its column otherwise
        return {f"{self.metric}{name.removeprefix(self.per_frame.column)}": value for name, value in values.items()}


class ClipJudge(Judge):
    """A metric of one clip by itself."""

    at_once = 1

    def __init__(self, metric: str, judge: ClipMetric):
        self.metric, self.judge = metric, judge
        self.fingerprint, self.about = judge.fingerprint(), judge.describe()

    def values(self, samples: Sequence[Sample]) -> list[dict[str, float]]:
        return [self.judge.measure(sample.frames, sample.prompt) for sample in samples]


class PairedJudge(Judge):
    """A comparison with the real sample, frame by frame; the mean over frames."""

    paired = True
    at_once = 1

    def __init__(self, metric: str, judge: PairedMetric):
        self.metric, self.judge = metric, judge
        self.fingerprint, self.about = judge.fingerprint(), judge.describe()

    def values(self, samples: Sequence[Sample]) -> list[dict[str, float]]:
        return [{self.metric: self._mean(sample)} for sample in samples]

    def _mean(self, sample: Sample) -> float:
        if sample.reference is None:
            raise ValueError("there is no reference for this prompt")
        return self.judge.compare(sample.frames, sample.reference).double().mean().item()


class SetJudge(Judge):
    """Computes and keeps the features that a distance between sets is taken on; gives no number for one sample."""

    at_once = 1

    def __init__(self, metric: str, extractor: FeatureExtractor, cache: Path):
        self.metric = metric
        self.fingerprint, self.about = extractor.fingerprint(), extractor.describe()
        self.features = FeatureCache(cache / FEATURES, extractor)

    def there(self, sha256: str) -> bool:
        """Whether the features of a sample are whole on disk."""
        return self.features.get(sha256) is not None

    def values(self, samples: Sequence[Sample]) -> list[dict[str, float]]:
        for sample in samples:
            self.features.features(sample.sha256, sample.frames)
        return [{} for _ in samples]


def load_judge(metric: str, kind: Kind, places: Mapping[str, str], device: torch.device, cache: Path) -> Judge:
    """The metric on `device`. Errors as `load_scorer` and `load_metric`."""
    mode = mode_of(metric, kind)
    if mode in ("image", "frames"):
        scorer = load_scorer(metric, places, device)
        return ImageJudge(metric, scorer) if mode == "image" else FramesJudge(metric, scorer)
    judge = load_metric(metric, places, device)
    if isinstance(judge, PairedMetric):
        return PairedJudge(metric, judge)
    if isinstance(judge, ClipMetric):
        return ClipJudge(metric, judge)
    if isinstance(judge, FeatureExtractor):
        return SetJudge(metric, judge, cache)
    raise ValueError(f"{metric} loads a {type(judge).__name__}, which nothing here knows how to ask")
