"""Has every metric and every plug-in judge the samples that it has not judged yet."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch

from benchmarks.evaluation.folder import JudgeEntry, Plan, PlanFolder
from benchmarks.evaluation.metric_adapters import Judge, Sample, SetJudge
from benchmarks.evaluation.prompts import Prompt, text_mark
from benchmarks.evaluation.references import NO_REFERENCE, UNREADABLE, References, reference_key
from benchmarks.evaluation.shard import Shard
from benchmarks.evaluation.store import Record, SampleStore, ScoreStore, ScoreWriter, score_key
from seppo_core.io.progress import progress_bar
from seppo_core.judging.columns import Score
from seppo_core.judging.external.process import Ask, judge_all
from seppo_core.judging.external.spec import Described, Plugin


@dataclass(frozen=True)
class Task:
    """One sample that a judge has not seen."""

    key: str
    store: SampleStore
    record: Record
    prompt: Prompt
    reference: str | None
    """Name of the pixels of the real sample that it is compared with."""


def score(
    folder: PlanFolder,
    plan: Plan,
    metric: str,
    load: Callable[[], Judge],
    references: References | None,
    *,
    shard: Shard | None = None,
    retry: bool = False,
) -> int:
    """Judges what is missing, keeps the reason of what cannot be judged, and returns how many were judged now.

    The judge leaves the device when done.
    """
    judge = load()
    try:
        texts = plan.prompts.texts
        entry = JudgeEntry(metric, judge.fingerprint, judge.about, len(judge.truncated(texts)))
        of_sets = isinstance(judge, SetJudge)
        hashes = reference_hashes(folder, plan, references, shard) if judge.paired or of_sets else {}
        store = folder.scores(entry)
        # what a judge of sets finds lies elsewhere and may have been removed or damaged since
        there = judge.there if isinstance(judge, SetJudge) else None
        tasks = tasks_of(folder, plan, store, hashes if judge.paired else {}, shard, retry, there)
        folder.note_judge(entry)
        if isinstance(judge, SetJudge) and references is not None:
            with store.writer(judge.about, shard) as writer:
                _reference_features(judge, plan, references, hashes, writer, shard, retry)
        if tasks:
            with (
                store.writer(judge.about, shard) as writer,
                progress_bar(len(tasks), unit="sample", description=metric) as bar,
            ):
                for start in range(0, len(tasks), judge.at_once):
                    part = tasks[start : start + judge.at_once]
                    _judge(judge, part, references, writer)
                    bar.update(len(part))
        return len(tasks)
    finally:
        del judge
        # the next judge may need all of the device; in main memory what is left goes by and by
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()


def reference_hashes(
    folder: PlanFolder, plan: Plan, references: References | None, shard: Shard | None
) -> dict[str, str]:
    """Name of the pixels of each prompt's real sample, by its key, if there is one.

    The files are looked at anew in every run; what they gave is written down, so that a file is decoded once as long as
    it stays the same, and so that the report knows which scores belong to the files of now.
    """
    if references is None:
        return folder.references()
    mine = list(plan.prompts.prompts) if shard is None else shard.of(list(plan.prompts.prompts))
    known = folder.reference_lines()
    with folder.reference_writer(shard) as writer:

        def note(prompt: Prompt, **found: str) -> None:
            before = known.get(prompt.key, {})
            known[prompt.key] = {"prompt": prompt.key, **found}
            if known[prompt.key] != {name: value for name, value in before.items() if name != "at"}:
                writer.write(known[prompt.key] | {"at": time.time_ns()})

        for prompt in mine:
            if references.file(prompt) is None:
                if prompt.key in known:
                    note(prompt, reason=NO_REFERENCE)
                continue
            mark = ""
            try:
                mark = references.mark(prompt)
                if known.get(prompt.key, {}).get("file") != mark:
                    note(prompt, file=mark, sha256=reference_key(references.read(prompt)))
            # decoders raise whatever they like for damage
            except Exception as error:
                note(prompt, file=mark, reason=_reason(error))
    return {key: line["sha256"] for key, line in known.items() if "sha256" in line}


def tasks_of(
    folder: PlanFolder,
    plan: Plan,
    store: ScoreStore,
    hashes: dict[str, str],
    shard: Shard | None,
    retry: bool,
    there: Callable[[str], bool] | None = None,
) -> list[Task]:
    """The samples that `store` has no score for, each once; `hashes` are those of the prompts' real samples.

    With `there`, also those that have one and of which nothing is there, by the sample's hash.
    """
    prompts = list(plan.prompts.prompts) if shard is None else shard.of(list(plan.prompts.prompts))
    found: dict[str, Task] = {}
    for model in plan.models:
        samples = folder.samples(model)
        for prompt in prompts:
            for seed in plan.protocol.seeds:
                record = samples.find(prompt, seed)
                # a file that was changed is to be removed and drawn again, not to be a failure of the judge
                if record is None or record.sha256 is None or not samples.is_sound(record):
                    continue
                key = score_key(record.sha256, text_mark(prompt.text), hashes.get(prompt.key))
                known = store.scores.get(key)
                # two models that draw the same pixels share the score
                if key in found:
                    continue
                failed = known is not None and known.reason is not None
                lost = known is not None and not failed and there is not None and not there(record.sha256)
                if known is None or lost or (failed and retry):
                    found[key] = Task(key, samples, record, prompt, hashes.get(prompt.key))
    return list(found.values())


def _judge(judge: Judge, tasks: Sequence[Task], references: References | None, writer: ScoreWriter) -> None:
    try:
        samples = [_sample(judge, task, references) for task in tasks]
        found = judge.values(samples)
    # a judge that fails on one sample must not take the others with it; KeyboardInterrupt is not an Exception
    except Exception as error:
        if len(tasks) > 1:
            for task in tasks:
                _judge(judge, [task], references, writer)
            return
        writer.add(tasks[0].key, Score({}, _reason(error)))
        return
    for task, values in zip(tasks, found, strict=True):
        writer.add(task.key, Score(values))


def _sample(judge: Judge, task: Task, references: References | None) -> Sample:
    frames = task.store.read(task.record)
    reference = None
    if judge.paired and references is not None:
        # the score is kept under these pixels
        reference = references.read(task.prompt, task.reference or UNREADABLE)
    return Sample(task.record.sha256 or "", frames, task.prompt.text, reference)


def _reference_features(
    judge: SetJudge,
    plan: Plan,
    references: References,
    hashes: dict[str, str],
    writer: ScoreWriter,
    shard: Shard | None,
    retry: bool,
) -> None:
    """Features of the real samples; one that fails is kept with its reason, as a sample is."""
    prompts = list(plan.prompts.prompts) if shard is None else shard.of(list(plan.prompts.prompts))
    for prompt in prompts:
        if prompt.key not in hashes or judge.features.get(hashes[prompt.key]) is not None:
            continue
        key = score_key(hashes[prompt.key], text_mark(prompt.text), None)
        known = writer.store.scores.get(key)
        if known is not None and known.reason is not None and not retry:
            continue
        try:
            judge.features.features(hashes[prompt.key], references.read(prompt, hashes[prompt.key]))
        except Exception as error:
            writer.add(key, Score({}, _reason(error)))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]


LOG = "judge.log"


def score_with_plugin(
    folder: PlanFolder,
    plan: Plan,
    plugin: Plugin,
    described: Described,
    *,
    shard: Shard | None = None,
    retry: bool = False,
) -> int:
    """Has every sample without a score judged, and returns how many were asked for now.

    Scores are written as they come, so that a stopped run goes on with the next sample. What the judge prints as errors
    is kept beside them.
    """
    about = {"plugin": described.about, "column": plugin.name}
    entry = JudgeEntry(plugin.name, described.fingerprint, about, 0)
    store = folder.scores(entry)
    tasks = tasks_of(folder, plan, store, {}, shard, retry)
    folder.note_judge(entry)
    if not tasks:
        return 0
    names = {name: column.name for name, column in zip(described.about["columns"], described.columns, strict=True)}
    asks, keys = [], {}
    with store.writer(about, shard) as writer, progress_bar(len(tasks), unit="sample", description=plugin.name) as bar:

        def add(name: str, score: Score) -> None:
            writer.add(keys[name], score)
            bar.update()

        for task in tasks:
            name = sha256(task.key.encode()).hexdigest()[:20]
            keys[name] = task.key
            try:
                # a file that was changed since must not be judged as the sample it was
                task.store.read(task.record)
            except (ValueError, OSError) as error:
                add(name, Score({}, str(error)[:300]))
                continue
            path = (task.store.folder / str(task.record.file)).absolute()
            asks.append(Ask(name, path, task.prompt.text, task.record.seed, plan.protocol.kind))
        judge_all(plugin, asks, names, store.folder / LOG, add)
    return len(tasks)
