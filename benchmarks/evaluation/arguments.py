"""The options of `quality`, and what can be said of them before torch is loaded and anything is drawn."""

import argparse
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evaluation.protocols import OWN, PROTOCOLS, Protocol, is_own
from benchmarks.evaluation.shard import Shard
from seppo_core.config.messages import nearest
from seppo_core.report.wording import counted

ROOT = Path("runs/quality")
EPILOG = f"""\
A model is name=PLACE: a diffusers folder or hub id, a base with a LoRA (base=a/b+lora=file), another UNet in it
(+unet=PLACE), a motion adapter on it (+motion=PLACE), a run folder of ours (runs/x, runs/x@180), an export, or a folder
of pictures that were made elsewhere, called by the prompts' ids (7-seed0.png) or listed in its metadata.jsonl.

`{OWN}` takes any prompts and whatever metrics have their weights here, pictures alone if none has; size and sampler are
those of the first model unless given, and {OWN}-video is taken by itself if that makes clips.

  python -m benchmarks quality smoke
  python -m benchmarks quality {OWN} --prompts mine.txt --models base=a/b tuned=runs/x theirs=pictures/
  python -m benchmarks quality doctor partiprompts --prompts PartiPrompts.tsv
  python -m benchmarks quality run seppo-t2i-sd15 --prompts prompts.jsonl \\
      --models base=stable-diffusion-v1-5/stable-diffusion-v1-5 seppo=runs/sd15_pickapic_seppo \\
      --weights pickscore_cos.weights=/data/PickScore_v1
"""
SMOKE_MODELS = ("base", "moved", "lora")
"""Names of the models that are made for a smoke protocol."""
DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


class Mistake(ValueError):
    """A mistake on the command line, in one line that names value, limit and cure."""


def parser(command: str) -> argparse.ArgumentParser:
    """The options of one of the commands."""
    found = argparse.ArgumentParser(
        prog=f"python -m benchmarks quality {command}",
        description={
            "run": "Draws what is missing, scores what is not scored, and writes the report; stopped, it goes on.",
            "report": "Writes the report anew from what was drawn and scored.",
            "doctor": "Says what a run needs and what of it is not here, before anything is drawn.",
        }[command],
        epilog=EPILOG + "\nprotocols:\n" + "\n".join(f"  {name:20} {p.what}" for name, p in PROTOCOLS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
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
    changes = found.add_argument_group("changes to the protocol, marked in the report")
    changes.add_argument("--seeds", nargs="+", type=int)
    changes.add_argument("--seed-mode", choices=["per_prompt", "sequential"], help="sequential: the authors' way")
    changes.add_argument("--scheduler", choices=["default", "ddim", "pndm", "euler", "dpm++", "unipc", "ddpm"])
    for option, kind in (("steps", int), ("height", int), ("width", int), ("frames", int), ("guidance-scale", float)):
        changes.add_argument(f"--{option}", type=kind)
    return found


def changes(asked: argparse.Namespace) -> dict[str, object]:
    """The settings of the protocol that the options name, None where they do not."""
    names = ("height", "width", "frames", "steps", "scheduler", "guidance_scale", "seed_mode")
    seeds = None if asked.seeds is None else tuple(asked.seeds)
    return {name: vars(asked)[name] for name in names} | {"seeds": seeds}


def check(asked: argparse.Namespace, protocol: Protocol, out: Path, command: str) -> None:
    """Raises Mistake for values that no `command` (run, doctor or report) can use."""
    for option, least in (("batch_size", 1), ("steps", 1), ("height", 1), ("width", 1), ("frames", 1), ("limit", 1)):
        if (value := vars(asked)[option]) is not None and value < least:
            raise Mistake(f"--{option.replace('_', '-')} {value} is too small; give at least {least}")
    if (scale := asked.guidance_scale) is not None and not (math.isfinite(scale) and scale >= 0):
        raise Mistake(f"--guidance-scale {scale} is no scale; give a number from 0 on, 1 turns guidance off")
    if asked.set_resamples is not None and asked.set_resamples < 2:
        raise Mistake(f"--set-resamples {asked.set_resamples} makes no interval; take at least 2, better 1000")
    if asked.frames is not None and (asked.frames > 1) != (protocol.kind == "video") and not is_own(protocol.name):
        needs = "pictures, of one frame" if protocol.kind == "image" else "clips, of at least 2 frames"
        raise Mistake(f"--frames {asked.frames}: {protocol.name} measures {needs}")
    _twice("--seeds", asked.seeds or [], "a seed is one sample of every prompt")
    names = [text.partition("=")[0].strip() for text in asked.models or []]
    _twice("--models", names, "every model needs a name of its own")
    if asked.device is not None and not DEVICE.fullmatch(asked.device):
        raise Mistake(f"--device {asked.device!r} is none; use cpu, cuda, cuda:1 or mps")
    if asked.set is not None and asked.set not in protocol.sets:
        raise Mistake(f"--set {asked.set!r} is not for {protocol.name}; use {', '.join(protocol.sets)}")
    if asked.shard is not None:
        try:
            Shard.parse(asked.shard)
        except ValueError as error:
            raise Mistake(str(error)) from error
    if protocol.seed_mode == "sequential" and (asked.shard is not None or len(protocol.seeds) > 1):
        raise Mistake("--seed-mode sequential is one process and one sample per prompt; leave --shard and --seeds out")
    for option in ("prompts", "training_prompts", "plugins", "references"):
        place = vars(asked)[option]
        if place is not None and not place.exists():
            raise Mistake(f"--{option.replace('_', '-')} {place}: there is no such file or folder")
    if out.exists() and not out.is_dir():
        raise Mistake(f"--out {out} is a file; name a folder")
    if not names and protocol.name.startswith("smoke"):
        names = list(SMOKE_MODELS)
    if command == "run" and not names:
        raise Mistake("--models is missing: name at least one, e.g. --models base=stable-diffusion-v1-5/…")
    _check_baseline(asked.baseline, [] if command == "report" else names, out)


def check_prompts(count: int, wanted: str) -> None:
    """Raises Mistake if there are too few prompts for an interval over them, which all numbers come with."""
    if count < 2:
        raise Mistake(
            f"{counted(count, 'prompt')} to measure by {wanted}: intervals are over prompts and need at least 2; give "
            f"more prompts, or look at pictures alone (protocol {OWN} without --metrics)"
        )


def _twice(option: str, values: Sequence[object], why: str) -> None:
    if twice := sorted({value for value in values if values.count(value) > 1}, key=str):
        raise Mistake(f"{option} names {twice[0]!r} twice; {why}")


def _check_baseline(baseline: str | None, given: Sequence[str], out: Path) -> None:
    if baseline is None:
        return
    plan = out / "plan.json"
    before = json.loads(plan.read_text(encoding="utf-8"))["models"] if plan.is_file() else []
    known = list(dict.fromkeys([*(model["name"] for model in before), *given]))
    # a report without a plan says so itself
    if known and baseline not in known:
        guess = nearest(baseline, known)
        raise Mistake(
            f"--baseline {baseline!r} is not a model here; there are {', '.join(known)}"
            + (f"; did you mean {guess}?" if guess else "")
        )
