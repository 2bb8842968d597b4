"""`python -m benchmarks quality [run|report|doctor] PROTOCOL`: scores models under a named protocol."""

import argparse
import sys
from pathlib import Path

from benchmarks.evaluation.protocols import BUNDLED, PROTOCOLS, SETS, Protocol, protocol_named, with_changes

COMMANDS = ("run", "report", "doctor")
ROOT = Path("runs/quality")
SMOKE = ("smoke-image", "smoke-video")
SMOKE_JUDGE = "clip_score_x1_signed"
EPILOG = """\
A model is name=PLACE: a diffusers folder or hub id, a base with a LoRA (base=a/b+lora=file), another UNet in it
(+unet=PLACE), a motion adapter on it (+motion=PLACE), or a run folder of ours (runs/x, runs/x@180).

  python -m benchmarks quality smoke
  python -m benchmarks quality doctor partiprompts --prompts PartiPrompts.tsv
  python -m benchmarks quality run seppo-t2i-sd15 --prompts prompts.jsonl \\
      --models base=stable-diffusion-v1-5/stable-diffusion-v1-5 seppo=runs/sd15_pickapic_seppo \\
      --weights pickscore_cos.weights=/data/PickScore_v1
"""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 1 if something is missing or fails, 2 for a mistake on the command line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments.pop(0) if arguments and arguments[0] in COMMANDS else "run"
    parser = _parser(command)
    asked = parser.parse_args(arguments)
    name = asked.protocol or asked.named
    if name is None:
        parser.error(f"name a protocol: smoke, {', '.join(PROTOCOLS)}")
    try:
        for one in SMOKE if name == "smoke" else (name,):
            status = _command(command, with_changes(protocol_named(one), _changes(asked)), asked, name)
            if status:
                return status
    except (ValueError, OSError, ModuleNotFoundError, RuntimeError) as error:
        print(f"quality: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("quality: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _command(command: str, protocol: Protocol, asked: argparse.Namespace, name: str) -> int:
    # imported late: a mistake in the call should be told before torch loads
    from benchmarks.evaluation.folder import PlanFolder
    from benchmarks.evaluation.report.files import write_report
    from benchmarks.evaluation.run import diagnose, run

    if asked.set_resamples is not None and asked.set_resamples < 2:
        raise ValueError(f"--set-resamples {asked.set_resamples} makes no interval; take at least 2, better 1000")
    out, cache = _places(protocol, asked, name)
    folder = PlanFolder(out, cache)
    if command != "report":
        evaluation = _evaluation(protocol, asked, out, cache, command == "doctor")
        if command == "doctor":
            found, missing = diagnose(evaluation)
            print(f"# {protocol.name}: {protocol.what}\n\n{_prompt_line(evaluation.prompts)}\n\n{found}")
            print("\n" + ("Nothing is missing." if not missing else "Missing:\n  " + "\n  ".join(missing)))
            return int(bool(missing))
        run(evaluation)
        if asked.shard is not None:
            print(f"shard {asked.shard} is done; when all are: python -m benchmarks quality report {name} --out {out}")
            return 0
    report = write_report(folder, asked.baseline, asked.set_resamples)
    print(f"\n{(out / 'table.md').read_text(encoding='utf-8')}")
    print(f"report.json, table.md, table.tex, scores.csv and index.html are in {out}")
    return 1 if any("mean" not in row for row in report["scores"]) else 0


def _evaluation(protocol: Protocol, asked: argparse.Namespace, out: Path, cache: Path, partly: bool):
    """The evaluation that the options ask for, with tiny parts for a smoke protocol; `partly` allows missing models."""
    import torch

    from benchmarks.evaluation import smoke
    from benchmarks.evaluation.columns import needs_of, needs_references, parse_places
    from benchmarks.evaluation.metrics.catalogue import METRICS
    from benchmarks.evaluation.models import parse_models
    from benchmarks.evaluation.prompt_files import import_prompts
    from benchmarks.evaluation.prompts import PromptSet
    from benchmarks.evaluation.run import Evaluation
    from benchmarks.evaluation.store import Shard
    from benchmarks.evaluation.trained_on import parse_rewards
    from seppo_core.judging.catalogue import SCORERS
    from seppo_core.judging.external.spec import parse_plugins

    given, weights, references = asked.models or [], list(asked.weights), asked.references
    if protocol.name in SMOKE:
        made = cache / "smoke"
        given = given or smoke.make_models(made, protocol.kind)
        references = references or smoke.make_references(made, protocol)
        if not any(item.startswith(f"{SMOKE_JUDGE}.") for item in weights):
            weights.append(f"{SMOKE_JUDGE}.weights={smoke.make_judge(made)}")
    if not given and not partly:
        raise ValueError("--models is missing: name at least one, e.g. --models base=stable-diffusion-v1-5/…")
    known = SETS[asked.set or protocol.sets[0]]
    source = asked.prompts or (None if known.bundled is None else BUNDLED / known.bundled)
    lacking = []
    if source is None:
        lacking.append(
            f"--prompts is missing: give the file of {known.name} ({known.rows} prompts, {known.licence}); it is had "
            f"from {known.address}"
        )
        if not partly:
            raise ValueError(lacking[0])
        prompts = PromptSet(known.name, (), 0, "no file")
    else:
        prompts = import_prompts(source, known.name, asked.prompt_column, asked.id_column, asked.category_columns)
    if asked.limit is not None:
        prompts = prompts.first(asked.limit)
    if prompts.skipped:
        print(f"warning: {len(prompts.skipped)} rows hold no prompt, e.g. {prompts.skipped[0]}", file=sys.stderr)
    places = parse_places(weights)
    metrics = list(asked.metrics or protocol.metrics)
    if asked.skip_missing:
        wanting = [] if references else needs_references(metrics, protocol.kind)
        metrics = [
            m for m in metrics if m not in wanting and not any(n.missing for n in needs_of([m], protocol.kind, places))
        ]
        if not metrics and not asked.plugin and asked.plugins is None:
            raise ValueError("--skip-missing leaves no metric; `quality doctor` says what each needs")
    models, plugins = parse_models(given), parse_plugins(asked.plugin, asked.plugins, METRICS)
    known_metrics = [*SCORERS, *METRICS, *metrics, *(plugin.name for plugin in plugins)]
    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Evaluation(
        protocol=protocol,
        prompts=prompts,
        models=models,
        metrics=metrics,
        plugins=plugins,
        rewards=parse_rewards(asked.rewards, [spec.name for spec in models], known_metrics),
        lacking=lacking,
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


def _places(protocol: Protocol, asked: argparse.Namespace, name: str) -> tuple[Path, Path]:
    if asked.set is not None and asked.set not in protocol.sets:
        raise ValueError(f"--set {asked.set!r} is not for {protocol.name}; use {', '.join(protocol.sets)}")
    slug = protocol.name if len(protocol.sets) == 1 else f"{protocol.name}-{asked.set or protocol.sets[0]}"
    out = asked.out or ROOT / slug
    if asked.out is not None and name == "smoke":
        out = asked.out / protocol.kind
    return out, asked.cache or (ROOT if asked.out is None else asked.out) / "cache"


def _prompt_line(prompts) -> str:
    return f"Prompts: {len(prompts)} of {prompts.name} from {prompts.file}, SHA-256 of the texts {prompts.sha256}."


def _changes(asked: argparse.Namespace) -> dict[str, object]:
    names = ("height", "width", "frames", "steps", "scheduler", "guidance_scale", "seed_mode")
    seeds = None if asked.seeds is None else tuple(asked.seeds)
    return {name: vars(asked)[name] for name in names} | {"seeds": seeds}


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks quality {command}",
        description={
            "run": "Draws what is missing, scores what is not scored, and writes the report; stopped, it goes on.",
            "report": "Writes the report anew from what was drawn and scored.",
            "doctor": "Says what a run needs and what of it is not here, before anything is drawn.",
        }[command],
        epilog=EPILOG + "\nprotocols:\n" + "\n".join(f"  {name:20} {p.what}" for name, p in PROTOCOLS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("protocol", nargs="?", metavar="PROTOCOL")
    add("--protocol", dest="named", metavar="PROTOCOL", help="the same")
    add("--out", type=Path, help=f"folder of the report (default: {ROOT}/PROTOCOL)")
    add("--cache", type=Path, help=f"folder of samples and scores, shared by reports (default: {ROOT}/cache)")
    add("--baseline", metavar="NAME", help="model that the others are compared with (default: the first)")
    add(
        "--set-resamples",
        type=int,
        metavar="N",
        help="bootstrap draws of FID, KID, FVD and KVD (default: 1000, or 50 for a Fréchet distance of over 500 rows)",
    )
    add("--set", help="prompt set, if the protocol has several")
    add("--prompts", type=Path, metavar="FILE", help="tsv, csv, jsonl, json, txt, parquet, or a folder of them")
    add("--models", nargs="+", metavar="NAME=PLACE", help="what is compared")
    add("--metrics", nargs="+", metavar="METRIC", help="default: the protocol's; more can be added later")
    add("--weights", nargs="+", default=[], metavar="METRIC.PART=PLACE", help="where a metric's files are")
    add("--download", action="store_true", help="let the hub client fetch what is on the hub and not here")
    add("--skip-missing", action="store_true", help="leave out metrics whose files are not here")
    add(
        "--plugin",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="a judge that is a process: docs/judges.md",
    )
    add("--plugins", type=Path, metavar="FILE", help="the same, several in a YAML file, with their time limits")
    add(
        "--rewards", nargs="+", default=[], metavar="MODEL=METRIC", help="what it was trained or selected by: is marked"
    )
    add("--references", type=Path, metavar="FOLDER", help="real samples called by the prompts' ids")
    add("--training-prompts", type=Path, metavar="FILE", help="what the models were trained on, to warn of overlap")
    add("--prompt-column", metavar="NAME")
    add("--id-column", metavar="NAME")
    add("--category-columns", nargs="*", metavar="NAME")
    add("--limit", type=int, metavar="N", help="only the first N prompts; marked in the report")
    add("--device", help="default: cuda if there is one")
    add("--dtype", choices=["float32", "bfloat16", "float16"], help="default: the protocol's on a GPU, else float32")
    add(
        "--batch-size",
        type=int,
        default=4,
        help="samples drawn at once; another number rounds otherwise, so that a few pixels move (default: %(default)s)",
    )
    add("--shard", metavar="I/N", help="this process's part of the prompts, e.g. 1/4")
    add("--retry-failed", action="store_true", help="try again what failed before")
    changes = parser.add_argument_group("changes to the protocol, marked in the report")
    changes.add_argument("--seeds", nargs="+", type=int)
    changes.add_argument("--seed-mode", choices=["per_prompt", "sequential"], help="sequential: the authors' way")
    changes.add_argument("--scheduler", choices=["default", "ddim", "pndm", "euler", "dpm++", "unipc", "ddpm"])
    for option, kind in (("steps", int), ("height", int), ("width", int), ("frames", int), ("guidance-scale", float)):
        changes.add_argument(f"--{option}", type=kind)
    return parser
