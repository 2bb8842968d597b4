"""Generate, score, report: each goes on from what is on disk, and none does the work of another."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks.evaluation.columns import WeightLocations, needs_of, needs_references
from benchmarks.evaluation.folder import ModelEntry, Plan, PlanFolder, entry_of
from benchmarks.evaluation.generate import Outcome, generate
from benchmarks.evaluation.made_elsewhere import MadeElsewhere, take
from benchmarks.evaluation.metric_adapters import load_judge
from benchmarks.evaluation.models import ModelSpec, check_there, identity_of, trained_config
from benchmarks.evaluation.prompt_files import texts_of
from benchmarks.evaluation.prompts import PromptSet, overlap
from benchmarks.evaluation.protocols import Protocol
from benchmarks.evaluation.references import References
from benchmarks.evaluation.samplers import Sampler, check_fits, load_sampler
from benchmarks.evaluation.score import score, score_with_plugin
from benchmarks.evaluation.shard import Shard
from seppo_core.cache.manifest import captions_of
from seppo_core.config.schema import Config
from seppo_core.judging.doctor import table
from seppo_core.judging.external.spec import Described, Plugin, describe
from seppo_core.judging.weights import WEIGHTS_VARIABLE
from seppo_core.report.wording import counted, some

HUB_ID = re.compile(r"[\w-]+/[\w.-]+")
NAMED = 5
"""Ambiguous names that are listed."""
CURE = (
    f"give them as --weights METRIC.PART=PLACE, or as ${WEIGHTS_VARIABLE}/OWNER/NAME; --download lets the hub client "
    "fetch those that are on the hub; --skip-missing goes on without"
)


class Missing(FileNotFoundError):
    """Something that the evaluation reads is not there; the message lists all of it."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that `quality run` was asked for."""

    protocol: Protocol
    prompts: PromptSet
    models: Sequence[ModelSpec]
    metrics: Sequence[str]
    out: Path
    cache: Path
    plugins: Sequence[Plugin] = ()
    """Judges that run as processes of their own, after the metrics."""
    rewards: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Metrics or data that each model was trained or selected by."""
    lacking: Sequence[str] = ()
    """Missing inputs, in words; only the doctor accepts any."""
    places: WeightLocations = field(default_factory=dict)
    references: Path | None = None
    device: str = "cpu"
    dtype: str = "float32"
    shard: Shard | None = None
    batch_size: int = 4
    retry: bool = False
    download: bool = False
    """Whether weights that are on the hub and not here count as there: they are fetched when loaded."""
    training: Path | None = None
    """Prompts or captions that the models were trained on, to look for overlap."""
    say: Callable[[str], None] = print

    @property
    def folder(self) -> PlanFolder:
        return PlanFolder(self.out, self.cache)


def diagnose(evaluation: Evaluation) -> tuple[str, list[str]]:
    """The needs of the evaluation as Markdown, with what is missing; nothing is loaded and no network asked for
    weights."""
    e = evaluation
    needs = needs_of(e.metrics, e.protocol.kind, e.places)
    absent = [need for need in needs if need.missing and not (e.download and HUB_ID.fullmatch(need.published))]
    missing = list(e.lacking)
    missing += [need.line for need in absent]
    if absent:
        missing.append(CURE)
    listed = table(needs).replace("--place SCORER.PART=PLACE", "--weights METRIC.PART=PLACE")
    lines = [listed if needs else "The metrics need no weights."]
    if wanting := needs_references(e.metrics, e.protocol.kind):
        if e.references is None:
            missing.append(f"{', '.join(wanting)}: real samples, in a folder by the prompts' ids (--references)")
        else:
            references = References(e.references, e.protocol, e.prompts.prompts)
            lines.append(" ".join(references.remarks(unused=e.prompts.cut_from is None)))
            if ambiguous := references.ambiguous():
                missing.append(
                    f"{', '.join(wanting)}: {'; '.join(ambiguous[:NAMED])}; give every id one file, in folders called "
                    "after the prompt files if ids begin anew in each"
                )
            elif len(references.missing()) == len(e.prompts):
                ids = some([prompt.given or prompt.id for prompt in e.prompts.prompts], 3)
                there = some([file.name for file in references.all], 3) or "nothing that can be read"
                missing.append(
                    f"{', '.join(wanting)}: no file in {e.references} is called by a prompt's id: it holds {there}, "
                    f"the ids are {ids}"
                )
    for plugin in e.plugins:
        try:
            about = describe(plugin, e.protocol.kind).about
            lines.append(f"Plug-in {plugin.name}: {about['name']} answers, columns {', '.join(about['columns'])}.")
        except (FileNotFoundError, ValueError) as error:
            missing.append(str(error))
    for spec in e.models:
        try:
            check_there(spec)
            check_fits(spec, e.protocol)
            if not spec.is_pictures:
                lines.append(f"Model {spec.name}: {spec.place} is there.")
            elif len(e.prompts):
                made = MadeElsewhere(Path(spec.base), e.protocol, e.prompts.prompts)
                if (problem := made.problem()) is not None:
                    raise ValueError(problem)
                lines.append(f"Model {spec.name}: {made.remark()}.")
        except (FileNotFoundError, ValueError) as error:
            missing.append(f"model {spec.name}: {error}")
    return "\n\n".join(lines), missing


def run(evaluation: Evaluation) -> Plan:
    """Draws and scores all that is missing. Raises Missing before anything is drawn if something is not there."""
    e = evaluation
    _, missing = diagnose(e)
    if missing:
        raise Missing("missing before anything is drawn:\n  " + "\n  ".join(missing))
    references = None if e.references is None else References(e.references, e.protocol, e.prompts.prompts)
    entries = [
        entry_of(spec, identity_of(spec), e.protocol, e.prompts, torch.device(e.device).type, e.dtype)
        for spec in e.models
    ]
    plan = e.folder.open(Plan(e.protocol, e.prompts, tuple(entries)))
    _note_overlap(e)
    if references is not None and needs_references(e.metrics, e.protocol.kind):
        # files of prompts that were not taken are no surprise
        _, *unmatched = references.remarks(unused=e.prompts.cut_from is None)
        e.folder.note("references", {"unmatched": unmatched})
        for line in unmatched:
            e.say(f"warning: {line}")
    if e.rewards:
        e.folder.note("rewards", e.folder.notes("rewards") | {name: list(of) for name, of in e.rewards.items()})
    for spec, entry in zip(e.models, entries, strict=True):
        _generate(e, spec, entry)
    for metric in e.metrics:
        load = partial(
            load_judge, metric, e.protocol.kind, e.places.get(metric, {}), torch.device(e.device), e.cache
        )  # fmt: skip
        judged = score(e.folder, plan, metric, load, references, shard=e.shard, retry=e.retry)
        e.say(f"{metric}: {counted(judged, 'sample')} judged")
    for plugin in e.plugins:
        try:
            described: Described = describe(plugin, e.protocol.kind)
            judged = score_with_plugin(e.folder, plan, plugin, described, shard=e.shard, retry=e.retry)
        except (RuntimeError, FileNotFoundError) as error:
            # one judge's failure is not the others'; the report says what has no score
            e.say(f"warning: {error}; the rest goes on without it")
            continue
        e.say(f"{plugin.name}: {counted(judged, 'sample')} judged")
    return plan


def _generate(e: Evaluation, spec: ModelSpec, entry: ModelEntry) -> None:
    store = e.folder.samples(entry)
    if spec.is_pictures:
        made = MadeElsewhere(Path(spec.base), e.protocol, e.prompts.prompts)
        about = {"place": entry.place, **entry.about}
        outcome = take(store, made, about, shard=e.shard, retry=e.retry, name=spec.name)
        e.say(_said(spec.name, outcome, "taken"))
        return

    def load() -> Sampler:
        sampler = load_sampler(spec, e.protocol, torch.device(e.device), e.dtype)
        store.note_read(e.prompts.prompts, sampler.truncated(e.prompts.texts), e.shard)
        return sampler

    outcome = generate(
        store,
        e.prompts.prompts,
        e.protocol,
        load,
        {"place": entry.place, **entry.about},
        shard=e.shard,
        batch_size=e.batch_size,
        retry=e.retry,
        name=spec.name,
    )
    e.say(_said(spec.name, outcome, "drawn"))
    if cut := store.truncated(e.prompts.prompts):
        e.say(f"{spec.name}: the text encoder cuts {cut} of {counted(len(e.prompts), 'prompt')}")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _said(name: str, outcome: Outcome, how: str) -> str:
    failed = f", {outcome.failed} failed" if outcome.failed else ""
    return f"{name}: {counted(outcome.drawn, 'sample')} {how}, {outcome.there} there before{failed}"


def _trained_on(config: Config) -> list[str]:
    """The captions that a run was trained on: of its cache, whatever that was made from, else of its source."""
    data = config.data
    prepared, source = Path(data.cache) / "items.jsonl", Path(data.source)
    if prepared.is_file():
        with prepared.open(encoding="utf-8") as lines:
            return [caption for line in lines for caption in captions_of(json.loads(line))]
    return texts_of(source) if source.is_dir() else []


def _note_overlap(e: Evaluation) -> None:
    """Prompts that a model was trained on make its scores look better than they are."""
    found = dict(e.folder.notes("overlap"))
    general = [] if e.training is None else texts_of(e.training)
    for spec in e.models:
        texts = list(general)
        # another model may have had this name
        found.pop(spec.name, None)
        if (config := trained_config(spec)) is not None:
            try:
                texts += _trained_on(config)
            # in the layouts of training data that no prompt file has, or on another machine
            except (ValueError, OSError, ModuleNotFoundError, KeyError) as error:
                e.say(f"warning: whether {spec.name} saw prompts in training cannot be told: {error}")
        if texts:
            found[spec.name] = len(overlap(e.prompts.prompts, texts))
            if found[spec.name]:
                seen = f"{found[spec.name]} of {counted(len(e.prompts), 'prompt')}"
                e.say(f"warning: seen in training by {spec.name}: {seen}")
    e.folder.note("overlap", found)
