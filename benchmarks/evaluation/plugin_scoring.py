"""Score with a judge that is a process: what has a score is not asked again, what fails is kept with its reason."""

from hashlib import sha256

from benchmarks.evaluation.folder import JudgeEntry, Plan, PlanFolder
from benchmarks.evaluation.lines import Shard
from benchmarks.evaluation.score import tasks_of
from seppo_core.io.progress import progress_bar
from seppo_core.judging.columns import Score
from seppo_core.judging.external.process import Ask, judge_all
from seppo_core.judging.external.spec import Described, Plugin

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
