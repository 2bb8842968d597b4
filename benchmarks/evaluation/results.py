"""Scores as arrays: prompts by seeds, what is missing as NaN, for every model and column of a plan."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.evaluation.columns import judge_columns
from benchmarks.evaluation.folder import JudgeEntry, ModelEntry, Plan, PlanFolder
from benchmarks.evaluation.prompts import text_mark
from benchmarks.evaluation.store import Record, SampleStore, score_key
from seppo_core.judging.columns import Column

Array = NDArray[np.float64]
CHANGED = "the file was changed or damaged after it was drawn; remove it to draw it again"
"""Why a sample that was drawn is not measured."""


@dataclass(frozen=True)
class ModelSamples:
    """A model's samples: counts, and why the others are missing."""

    entry: ModelEntry
    hashes: list[list[str | None]]
    """Hashes of the pixels, prompts by seeds; None if there is no sample."""
    files: list[list[str | None]]
    failures: dict[str, int]
    """Failed samples by reason."""
    absent: int
    """Samples that were not drawn yet."""
    seconds: float
    """Seconds that drawing took, all samples together."""
    truncated: int | None
    """Prompts that the text encoder does not read to the end; None if that is not known."""
    sampler: dict[str, str]
    """The device that drew the samples."""
    changed: list[str]
    """Files that were changed or damaged after they were drawn."""
    store: SampleStore
    records: list[list[Record | None]]
    """The records of the samples that are there and sound, prompts by seeds."""

    @property
    def count(self) -> int:
        return sum(name is not None for row in self.hashes for name in row)

    def read(self, row: int, at: int) -> UInt8[Tensor, "f 3 h w"]:
        """The frames of one sample, checked. ValueError if there are none, or others than were drawn."""
        record = self.records[row][at]
        if record is None:
            raise ValueError(f"{self.entry.name} has no sample {at} of prompt {row}")
        return self.store.read(record)


@dataclass(frozen=True)
class Results:
    """Everything that a report is made from."""

    plan: Plan
    models: list[ModelSamples]
    judges: list[JudgeEntry]
    columns: list[Column]
    """Columns with a number per sample; those of sets are in `set_columns`."""
    set_columns: list[Column]
    tables: dict[tuple[str, str], Array]
    """(model, column): values (prompts, seeds)."""
    score_failures: dict[tuple[str, str], dict[str, int]]
    """(model, metric): failed scores by reason; "not scored yet" among them."""

    def table(self, model: str, column: str) -> Array:
        return self.tables[model, column]

    @property
    def names(self) -> list[str]:
        return [model.entry.name for model in self.models]


def collect(folder: PlanFolder) -> Results:
    """Reads what generating and scoring left; loads no model and no judge."""
    plan = folder.load()
    judges = folder.judges()
    kind = plan.protocol.kind
    filled = {judge.metric: judge_columns(judge.metric, judge.about, kind) for judge in judges}
    columns = [column for judge in judges for column in filled[judge.metric]]
    models = [model_samples(folder, plan, entry) for entry in plan.models]
    references = folder.references()
    tables: dict[tuple[str, str], Array] = {}
    failures: dict[tuple[str, str], dict[str, int]] = {}
    for judge in judges:
        mode = filled[judge.metric][0].mode
        if mode == "set":
            continue
        known = references if mode == "paired" else {}
        names = [column.name for column in filled[judge.metric]]
        store = folder.scores(judge)
        for model in models:
            found = {name: np.full((len(plan.prompts), len(plan.protocol.seeds)), np.nan) for name in names}
            reasons: Counter[str] = Counter()
            for row, prompt in enumerate(plan.prompts.prompts):
                for seed, sample in enumerate(model.hashes[row]):
                    if sample is None:
                        continue
                    score = store.scores.get(score_key(sample, text_mark(prompt.text), known.get(prompt.key)))
                    if score is None or score.reason is not None:
                        reasons[score.reason if score is not None and score.reason else "not scored yet"] += 1
                        continue
                    for name in names:
                        found[name][row, seed] = score.values[name]
            failures[model.entry.name, judge.metric] = dict(reasons)
            tables |= {(model.entry.name, name): values for name, values in found.items()}
    per_sample = [column for column in columns if column.mode != "set"]
    return Results(
        plan, models, judges, per_sample, [c for c in columns if c.mode == "set"], tables, failures
    )  # fmt: skip


def model_samples(folder: PlanFolder, plan: Plan, entry: ModelEntry) -> ModelSamples:
    """Reads one model's samples from its manifest; a file that was changed since is a failure."""
    store = folder.samples(entry)
    records: list[list[Record | None]] = []
    failures: Counter[str] = Counter()
    changed: list[str] = []
    absent, seconds = 0, 0.0
    for prompt in plan.prompts.prompts:
        found = [store.find(prompt, seed) for seed in plan.protocol.seeds]
        there = [record if record is not None and record.file is not None else None for record in found]
        records.append([record if record is not None and store.is_sound(record) else None for record in there])
        bad = [record for record, sound in zip(there, records[-1], strict=True) if record is not sound]
        changed += [str(store.folder / str(record.file)) for record in bad if record is not None]
        failures.update(CHANGED for _ in bad)
        absent += sum(record is None for record in found)
        seconds += sum(record.seconds for record in found if record is not None)
        failures.update(record.reason for record in found if record is not None and record.reason is not None)
    truncated = store.truncated(plan.prompts.prompts)
    hashes = [[None if record is None else record.sha256 for record in row] for row in records]
    files = [[None if record is None else str(store.folder / str(record.file)) for record in row] for row in records]
    return ModelSamples(
        entry, hashes, files, dict(failures), absent, seconds, truncated, store.sampler(), changed, store, records
    )


def shared(first: Array, second: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Both tables on the prompts of which both have every seed, and which those are."""
    complete = np.isfinite(first).all(1) & np.isfinite(second).all(1)
    return first[complete], second[complete], complete


def prompt_means(table: Array) -> Array:
    """Mean over the seeds that are there, (prompts,), NaN if there is none."""
    counts = np.isfinite(table).sum(1)
    sums = np.where(np.isfinite(table), table, 0).sum(1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def category_values(plan: Plan, column: str) -> dict[str, list[int]]:
    """Rows of the prompts by their value of a category column, values in order of appearance."""
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(plan.prompts.prompts):
        for name, value in prompt.categories:
            if name == column and row not in rows.get(value, [])[-1:]:
                rows.setdefault(value, []).append(row)
    return rows
