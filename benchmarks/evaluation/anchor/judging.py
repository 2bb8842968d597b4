"""Scores of the samples by any judge: an image scorer, a metric of clips, a process, or the toy's exact score."""

from collections.abc import Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from benchmarks.evaluation.anchor.measure import Measured
from benchmarks.evaluation.columns import WeightLocations, mode_of, needs_of
from benchmarks.evaluation.metric_adapters import Judge, Sample, load_judge
from benchmarks.evaluation.metrics.feature_cache import frames_key
from benchmarks.evaluation.prompts import text_mark
from benchmarks.evaluation.store import ScoreStore, score_key
from seppo_core.judging.columns import Kind, Score
from seppo_core.judging.doctor import Need
from seppo_core.judging.external.process import Ask, judge_all
from seppo_core.judging.external.spec import Described, Plugin
from seppo_image.commands import write_image
from seppo_video.commands import write_video

PLUGGED = {"toy": "benchmarks.experiments.toy.task.judge:ToyJudge"}
"""Judges that live above this package: the short name, and the `module:class` that `make_judge` loads."""


def needed(judges: Sequence[str], kind: Kind, places: WeightLocations) -> list[Need]:
    """The files that the judges read, with those that are missing.

    Raises ValueError for a judge that compares with real samples.
    """
    metrics = [judge for judge in judges if judge not in PLUGGED and ":" not in judge]
    if bad := [metric for metric in metrics if mode_of(metric, kind) in ("paired", "set")]:
        raise ValueError(f"{bad[0]} judges no sample by itself; use a scorer, {', '.join(PLUGGED)}, or a plug-in")
    return needs_of(metrics, kind, places)


class Scores:
    """Scores of samples by one judge, kept by what is in them, so that nothing is judged twice."""

    def __init__(self, out: Path, kind: Kind):
        self.out, self.kind = out, kind

    def by(self, judge: Judge, samples: Tensor, captions: Sequence[str]) -> Tensor:
        """(items, samples) for `samples` (items, samples, f, h, w, 3); NaN if one cannot be judged.

        A judge's first column counts.
        """
        flat = _flat(samples, captions)
        store = ScoreStore(self.out / "scores", judge.metric, judge.fingerprint)
        todo = {key: sample for key, sample in flat.items() if key not in store.scores}
        with store.writer(judge.about, None) as writer:
            keys = list(todo)
            for start in range(0, len(keys), judge.at_once):
                part = keys[start : start + judge.at_once]
                for key, score in zip(part, _judged(judge, [todo[key] for key in part]), strict=True):
                    writer.add(key, score)
        return _table(store, samples, captions)

    def by_process(self, plugin: Plugin, described: Described, samples: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores like `by`, from a judge in a process of its own, which is given files."""
        flat = _flat(samples, captions)
        store = ScoreStore(self.out / "scores", plugin.name, described.fingerprint)
        names = {name: column.name for name, column in zip(described.about["columns"], described.columns, strict=True)}
        asks, keys = [], {}
        for key, sample in flat.items():
            if key in store.scores:
                continue
            name = sha256(key.encode()).hexdigest()[:20]
            keys[name] = key
            frames = rearrange(sample.frames, "f c h w -> f h w c")
            stem = self.out / "files" / sample.sha256[:24]
            path = write_image(stem, frames) if len(frames) == 1 else write_video(stem, frames, lossless=True)
            asks.append(Ask(name, path.absolute(), sample.prompt, 0, self.kind))
        with store.writer({"plugin": described.about}, None) as writer:
            judge_all(
                plugin, asks, names, store.folder / "judge.log", lambda name, score: writer.add(keys[name], score)
            )
        return _table(store, samples, captions)


def make_judge(name: str, kind: Kind, places: WeightLocations, device: torch.device, out: Path) -> Judge:
    """The judge of that name on `device`; a name `module:class` is imported and called without arguments."""
    module, colon, attribute = PLUGGED.get(name, name).partition(":")
    if colon:
        return getattr(import_module(module), attribute)()
    return load_judge(name, kind, places.get(name, {}), device, out)


def margin(scores: tuple[Tensor, Tensor]) -> Tensor:
    """(items,): the policy's mean score minus the reference's, both (items, samples)."""
    policy, reference = scores
    return (policy.double() - reference.double()).mean(1)


def both(measured: Measured) -> tuple[Tensor, Tensor]:
    return measured.policy_samples, measured.reference_samples


def _flat(samples: Tensor, captions: Sequence[str]) -> dict[str, Sample]:
    found = {}
    for item, caption in zip(samples, captions, strict=True):
        for frames in rearrange(item, "r f h w c -> r f c h w"):
            sample = Sample(frames_key(frames), frames.contiguous(), caption)
            found[score_key(sample.sha256, text_mark(caption), None)] = sample
    return found


def _table(store: ScoreStore, samples: Tensor, captions: Sequence[str]) -> Tensor:
    """The first column of each sample's score."""
    rows = []
    for item, caption in zip(samples, captions, strict=True):
        row = []
        for frames in rearrange(item, "r f h w c -> r f c h w"):
            score = store.scores.get(score_key(frames_key(frames), text_mark(caption), None))
            values = {} if score is None else score.values
            row.append(next(iter(values.values()), float("nan")))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def _judged(judge: Judge, samples: Sequence[Sample]) -> list[Score]:
    try:
        return [Score(values) for values in judge.values(samples)]
    # one bad sample must not take the others with it
    except Exception as error:
        if len(samples) > 1:
            return [score for sample in samples for score in _judged(judge, [sample])]
        return [Score({}, f"{type(error).__name__}: {error}"[:300])]
