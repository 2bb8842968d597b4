"""Distances between a model's set of samples and the real ones, from features that the judges left on disk."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.evaluation.folder import JudgeEntry, PlanFolder
from benchmarks.evaluation.metric_adapters import FEATURES
from benchmarks.evaluation.metrics.catalogue import metric_entry
from benchmarks.evaluation.metrics.feature_cache import FeatureCache, FeatureSet
from benchmarks.evaluation.metrics.set_metrics import Distance, compare_sets
from benchmarks.evaluation.prompts import Prompt, text_mark
from benchmarks.evaluation.references import NO_REFERENCE
from benchmarks.evaluation.results import Results
from benchmarks.evaluation.store import ScoreStore, score_key
from seppo_core.io.atomic import save_json
from seppo_core.report.wording import counted

RESAMPLES = 1000
MANY_ROWS, FEW_RESAMPLES = 500, 50
"""A draw of a Fréchet distance of more rows than this takes seconds; so many are drawn then, unless told otherwise."""
ROUGH = 200
"""Draws below which a 95 % bound rests on the outermost few."""
NOT_JUDGED = "not scored yet"


@dataclass(frozen=True)
class StoredExtractor:
    """Stands for the extractor whose features are already there, so that they are found without its weights."""

    column: str
    print: str

    def fingerprint(self) -> str:
        return self.print

    def features(self, frames: Tensor) -> Float[Tensor, "n d"]:
        raise FileNotFoundError(f"features of {self.column} are not complete; run the score stage again")


def set_results(folder: PlanFolder, results: Results, baseline: str, resamples: int | None = None) -> dict[str, dict]:
    """Per metric: each model's distance with interval and bias, differences to the baseline, and how many prompts are
    left out and why; or the reason why there is no distance.

    The unit is the prompt: all its samples are drawn together, with the real one. A prompt without a reference, or of
    which any model lacks a sample or its features, is left out for all models. Results are kept, for a bootstrap of a
    Fréchet distance takes minutes.
    """
    of_sets = {column.metric for column in results.set_columns}
    found = {}
    for judge in results.judges:
        if judge.metric in of_sets:
            found[judge.metric] = _distances(folder, results, judge, baseline, resamples)
    return found


def set_warnings(sets: dict[str, dict], used: int) -> list[str]:
    """Warnings for the reader about distances between sets: what they leave out, and how rough their bounds are."""
    lines = []
    for metric, found in sets.items():
        if found["left_out"]:
            reasons = "; ".join(f"{count} × {reason}" for reason, count in found["left_out_reasons"].items())
            cure = " --retry-failed tries again what failed." if found["failed"] else ""
            lines.append(
                f"{metric} leaves out {found['left_out']} of {counted(used, 'prompt')} for all models: {reasons}.{cure}"
            )
        if "reason" in found:
            lines.append(f"{metric}: {found['reason']}.")
        elif found["resamples"] < ROUGH:
            lines.append(
                f"{metric}: the 95 % bounds rest on the outermost few of {found['resamples']} bootstrap draws; "
                "--set-resamples takes more, each in seconds."
            )
    return lines


def _distances(
    folder: PlanFolder, results: Results, judge: JudgeEntry, baseline: str, resamples: int | None
) -> dict[str, object]:
    features = _Features(folder, results, judge)
    left_out = {prompt.key: reason for prompt in results.plan.prompts.prompts if (reason := features.lacking(prompt))}
    prompts = [prompt for prompt in results.plan.prompts.prompts if prompt.key not in left_out]
    said = {
        "prompts": len(prompts),
        "left_out": len(left_out),
        "left_out_reasons": dict(Counter(left_out.values())),
        "failed": features.failed,
    }
    if len(prompts) < 2:
        return said | {"reason": f"complete: {counted(len(prompts), 'prompt')}; a set needs at least 2"}
    names = [baseline, *(name for name in results.names if name != baseline)]
    hashes = {name: {p.key: features.hashes[name][p.key] for p in prompts} for name in names}
    real = {prompt.key: [features.references[prompt.key]] for prompt in prompts}
    distance: Distance = metric_entry(judge.metric).distance
    if resamples is None:
        rows = max(sum(features.rows(h) for found in one.values() for h in found) for one in (real, *hashes.values()))
        resamples = FEW_RESAMPLES if distance == "frechet" and rows > MANY_ROWS else RESAMPLES
    # the order of the models counts: differences are to the first
    asked = [judge.fingerprint, distance, list(real.items()), list(hashes.items()), resamples]
    kept = folder.folder / "sets" / f"{sha256(json.dumps(asked).encode()).hexdigest()[:16]}.json"
    if not kept.is_file():
        sets = {name: features.set_of(found) for name, found in hashes.items()}
        try:
            compared = compare_sets(sets, features.set_of(real), distance, resamples)
        except ValueError as error:
            # of a handful of prompts a draw may be one and the same
            return said | {"reason": f"no interval from {counted(len(prompts), 'prompt')}: {error}"}
        content = {
            "resamples": resamples,
            "estimates": {
                name: {**asdict(estimate), "interval": list(estimate.interval)}
                for name, estimate in compared.estimates.items()
            },
            "differences": {name: list(interval) for name, interval in compared.differences.items()},
        }
        save_json(kept, content)
    return said | json.loads(kept.read_text(encoding="utf-8"))


class _Features:
    """The features that one judge stored of all samples and references; each is read once."""

    def __init__(self, folder: PlanFolder, results: Results, judge: JudgeEntry):
        self.references = folder.references()
        self.unreadable = folder.unreadable_references()
        keys = [prompt.key for prompt in results.plan.prompts.prompts]
        self.hashes = {m.entry.name: dict(zip(keys, m.hashes, strict=True)) for m in results.models}
        self.failed = False
        """Whether anything was left out that could be tried again."""
        self._extractor = StoredExtractor(str(judge.about["column"]), judge.fingerprint)
        self._cache = FeatureCache(folder.cache / FEATURES, self._extractor)
        self._store: ScoreStore = folder.scores(judge)
        self._found: dict[str, Tensor | None] = {}

    def lacking(self, prompt: Prompt) -> str | None:
        """Why a prompt is left out, None if all of it is there."""
        if prompt.key not in self.references:
            return self.unreadable.get(prompt.key, NO_REFERENCE)
        if self._get(self.references[prompt.key]) is None:
            return f"reference: {self._reason(self.references[prompt.key], prompt)}"
        for name, found in self.hashes.items():
            for sample in found[prompt.key]:
                if sample is None:
                    return f"{name}: a sample is not drawn or failed"
                if self._get(sample) is None:
                    return f"{name}: {self._reason(sample, prompt)}"
        return None

    def rows(self, sample: str | None) -> int:
        return len(self._there(sample))

    def set_of(self, hashes: dict[str, Sequence[str | None]]) -> FeatureSet:
        rows = {prompt: torch.cat([self._there(sample) for sample in samples]) for prompt, samples in hashes.items()}
        return FeatureSet.of(rows, self._extractor.column, self._extractor.fingerprint())

    def _there(self, sample: str | None) -> Tensor:
        found = self._get(sample or "")
        if found is None:
            return self._extractor.features(torch.empty(0))
        return found

    def _get(self, sample: str) -> Tensor | None:
        if sample not in self._found:
            self._found[sample] = self._cache.get(sample)
        return self._found[sample]

    def _reason(self, sample: str, prompt: Prompt) -> str:
        score = self._store.scores.get(score_key(sample, text_mark(prompt.text), None))
        if score is None or score.reason is None:
            return NOT_JUDGED
        self.failed = True
        return score.reason
