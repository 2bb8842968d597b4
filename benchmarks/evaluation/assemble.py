"""From the options of `quality` to an evaluation: prompts first, then models and metrics, which take torch."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.evaluation.arguments import Mistake, check_prompts
from benchmarks.evaluation.prompt_files import import_prompts
from benchmarks.evaluation.prompts import PromptSet
from benchmarks.evaluation.protocols import BUNDLED, SETS, Protocol, is_own
from seppo_core.report.wording import counted

if TYPE_CHECKING:
    from benchmarks.evaluation.run import Evaluation

SMOKE_JUDGE = "clip_score_x1_signed"
NO_FILE = "no file"


def prompts_of(protocol: Protocol, asked: argparse.Namespace, partly: bool) -> PromptSet:
    """The prompts that the options name; `partly` allows none. Loads no torch. Raises Mistake."""
    known = SETS[asked.set or protocol.sets[0]]
    own = is_own(protocol.name)
    source = asked.prompts or (None if known.bundled is None else BUNDLED / known.bundled)
    if source is None:
        if not partly:
            raise Mistake(_lacking(protocol, asked))
        return PromptSet(known.name, (), 0, NO_FILE)
    try:
        prompts = import_prompts(
            source,
            (source.name or source.resolve().name) if own else known.name,
            asked.prompt_column,
            asked.id_column,
            asked.category_columns,
        )
    except (ValueError, OSError) as error:
        raise Mistake(str(error)) from error
    if asked.limit is not None:
        prompts = prompts.first(asked.limit)
    if prompts.skipped:
        there = "row holds" if len(prompts.skipped) == 1 else "rows hold"
        print(f"warning: {len(prompts.skipped)} {there} no prompt, e.g. {prompts.skipped[0]}", file=sys.stderr)
    for note in prompts.notes:
        print(f"warning: {note}", file=sys.stderr)
    if not partly and asked.metrics:
        check_prompts(len(prompts), ", ".join(asked.metrics))
    if not partly and not own:
        check_prompts(len(prompts), "the protocol's metrics")
    return prompts


def prompt_line(prompts: PromptSet) -> str:
    """What the prompts are, for the doctor."""
    if prompts.file == NO_FILE:
        return "Prompts: none yet."
    return f"Prompts: {len(prompts)} for {prompts.name} from {prompts.file}, SHA-256 of the texts {prompts.sha256}."


def assemble(
    protocol: Protocol, asked: argparse.Namespace, prompts: PromptSet, out: Path, cache: Path, partly: bool
) -> "Evaluation":
    """The evaluation that the options ask for, with tiny parts for a smoke protocol; `partly` allows missing models.

    Raises Mistake for options that do not fit.
    """
    try:
        return _assembled(protocol, asked, prompts, out, cache, partly)
    except (ValueError, OSError) as error:
        raise Mistake(str(error)) from error


def _assembled(
    protocol: Protocol, asked: argparse.Namespace, prompts: PromptSet, out: Path, cache: Path, partly: bool
) -> "Evaluation":
    import torch

    from benchmarks.evaluation import smoke
    from benchmarks.evaluation.columns import mode_of, needs_of, needs_references, parse_places
    from benchmarks.evaluation.metrics.catalogue import METRICS
    from benchmarks.evaluation.models import parse_models
    from benchmarks.evaluation.own import settled
    from benchmarks.evaluation.run import Evaluation
    from benchmarks.evaluation.shard import Shard
    from benchmarks.evaluation.trained_on import parse_rewards
    from seppo_core.judging.catalogue import SCORERS
    from seppo_core.judging.external.spec import parse_plugins

    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise Mistake(f"--device {device}: torch sees no CUDA here; leave it out, or use --device cpu")
    if (number := device.partition(":")[2]) and device.startswith("cuda") and int(number) >= torch.cuda.device_count():
        raise Mistake(f"--device {device}: there are {torch.cuda.device_count()}, counted from 0")
    if not is_own(protocol.name):
        for metric in asked.metrics or []:
            mode_of(metric, protocol.kind)
    given, weights, references = asked.models or [], list(asked.weights), asked.references
    if protocol.name.startswith("smoke"):
        made = cache / "smoke"
        given = given or smoke.make_models(made, protocol.kind)
        references = references or smoke.make_references(made, protocol)
        if not any(item.startswith(f"{SMOKE_JUDGE}.") for item in weights):
            weights.append(f"{SMOKE_JUDGE}.weights={smoke.make_judge(made)}")
    models = parse_models(given)
    if is_own(protocol.name):
        protocol = settled(protocol, asked, models, out)
        for metric in asked.metrics or []:
            mode_of(metric, protocol.kind)
    places = parse_places(weights)
    metrics = list(dict.fromkeys(asked.metrics or protocol.metrics))
    of_own = is_own(protocol.name) and asked.metrics is None
    if asked.skip_missing or of_own:
        wanting = [] if references else needs_references(metrics, protocol.kind)
        asked_for = metrics
        metrics = [
            m for m in metrics if m not in wanting and not any(n.missing for n in needs_of([m], protocol.kind, places))
        ]
        if left_out := [metric for metric in asked_for if metric not in metrics]:
            print(
                f"left out, for what they read is not here: {', '.join(left_out)}; `quality doctor {protocol.name} "
                f"--metrics {left_out[0]}` says what it is"
            )
        if of_own and len(prompts) < 2:
            metrics = []
        if not metrics and not asked.plugin and asked.plugins is None:
            if not of_own:
                raise Mistake("--skip-missing leaves no metric; `quality doctor` says what each needs")
            print("no metric is left: pictures alone")
    plugins = parse_plugins(asked.plugin, asked.plugins, METRICS)
    if plugins and not partly:
        check_prompts(len(prompts), ", ".join(plugin.name for plugin in plugins))
    known_metrics = [*SCORERS, *METRICS, *metrics, *(plugin.name for plugin in plugins)]
    return Evaluation(
        protocol=protocol,
        prompts=prompts,
        models=models,
        metrics=metrics,
        plugins=plugins,
        rewards=parse_rewards(asked.rewards, [spec.name for spec in models], known_metrics),
        lacking=[_lacking(protocol, asked)] if prompts.file == NO_FILE else [],
        out=out,
        cache=cache,
        places=places,
        references=references,
        device=device,
        dtype=asked.dtype or (protocol.dtype if device != "cpu" else "float32"),
        shard=None if asked.shard is None else Shard.parse(asked.shard),
        batch_size=asked.batch_size,
        retry=asked.retry_failed,
        download=asked.download,
        training=asked.training_prompts,
    )


def _lacking(protocol: Protocol, asked: argparse.Namespace) -> str:
    known = SETS[asked.set or protocol.sets[0]]
    if is_own(protocol.name):
        return "--prompts is missing: give a file of your prompts, one a line, or a csv, tsv, jsonl or parquet"
    return (
        f"--prompts is missing: give the file of {known.name} ({counted(known.rows, 'prompt')}, {known.licence}); it "
        f"is had from {known.address}"
    )
