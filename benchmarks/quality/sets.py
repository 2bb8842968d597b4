"""Distances between a model's set of samples and the real ones, from features that the judges left on disk."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.quality.judges import FEATURES
from benchmarks.quality.plan import JudgeEntry, PlanFolder
from benchmarks.quality.results import Results
from benchmarks.video_metrics.catalogue import metric_entry
from benchmarks.video_metrics.feature_sets import FeatureCache, FeatureSet
from benchmarks.video_metrics.set_metrics import compare_sets
from seppo_core.files import save_json

MANY_ROWS = 500


@dataclass(frozen=True)
class StoredExtractor:
    """Stands for the extractor whose features are already there, so that they are found without its weights."""

    column: str
    print: str

    def fingerprint(self) -> str:
        return self.print

    def features(self, frames: Tensor) -> Float[Tensor, "n d"]:
        raise FileNotFoundError(f"features of {self.column} are not complete; run the score stage again")


def set_results(folder: PlanFolder, results: Results) -> dict[str, dict]:
    """By metric: each model's distance with interval and bias, and differences to the first; or the reason for none.

    The unit is the prompt: all its samples are drawn together, with the real one. Results are kept, for a bootstrap of
    a Fréchet distance takes minutes.
    """
    found = {}
    for judge in results.judges:
        entry_mode = [column for column in results.set_columns if column.metric == judge.metric]
        if not entry_mode:
            continue
        try:
            found[judge.metric] = _distances(folder, results, judge)
        except (FileNotFoundError, ValueError) as error:
            found[judge.metric] = {"reason": str(error)}
    return found


def _distances(folder: PlanFolder, results: Results, judge: JudgeEntry) -> dict:
    plan, references = results.plan, folder.references()
    extractor = StoredExtractor(str(judge.about["column"]), judge.fingerprint)
    cache = FeatureCache(folder.cache / FEATURES, extractor)
    rows = [
        row
        for row, prompt in enumerate(plan.prompts.prompts)
        if prompt.key in references and all(all(model.hashes[row]) for model in results.models)
    ]
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} prompts have a reference and all samples; a set needs at least 2")
    keys = [plan.prompts.prompts[row].key for row in rows]
    real = [references[key] for key in keys]
    names = {model.entry.name: [model.hashes[row] for row in rows] for model in results.models}
    distance = metric_entry(judge.metric).distance
    mark = sha256(json.dumps([judge.fingerprint, distance, real, names], sort_keys=True).encode()).hexdigest()[:16]
    kept = folder.folder / "sets" / f"{mark}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    reference = _set(cache, extractor, dict(zip(keys, [[h] for h in real], strict=True)))
    sets = {name: _set(cache, extractor, dict(zip(keys, hashes, strict=True))) for name, hashes in names.items()}
    many = max(len(one.rows) for one in sets.values()) > MANY_ROWS
    resamples = 50 if many else 1000
    compared = compare_sets(sets, reference, distance, resamples)
    content = {
        "prompts": len(rows),
        "left_out": len(plan.prompts) - len(rows),
        "resamples": resamples,
        "estimates": {
            name: {**asdict(estimate), "interval": list(estimate.interval)}
            for name, estimate in compared.estimates.items()
        },
        "differences": {name: list(interval) for name, interval in compared.differences.items()},
    }
    save_json(kept, content)
    return content


def _set(cache: FeatureCache, extractor: StoredExtractor, hashes: dict[str, list[str | None]]) -> FeatureSet:
    rows = {}
    for prompt, samples in hashes.items():
        found = [cache.get(sample or "") for sample in samples]
        if any(one is None for one in found):
            raise FileNotFoundError(f"features of {extractor.column} are not complete; run the score stage again")
        rows[prompt] = torch.cat([one for one in found if one is not None])
    return FeatureSet.of(rows, extractor.column, extractor.fingerprint())
