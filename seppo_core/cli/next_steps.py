"""What can be done after a command, in words to copy."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seppo_core.config.options import ExportRequest, RankRequest, SampleRequest
from seppo_core.config.schema import Config
from seppo_core.run.checkpoint_names import FOLDER, checkpoints_in
from seppo_core.run.names import run_of
from seppo_core.run.previews import best_text, read_previews, score_text
from seppo_core.run.status import PAGE

if TYPE_CHECKING:
    from seppo_core.plan.result import Plan


def after_init(program: str, config: Path, gpu: str | None) -> str:
    """How a config that was written goes on."""
    card = f" --gpu {gpu}" if gpu else ""
    return f"next: {_line(program, 'plan', str(config))}{card}, then prepare and train with the same file"


def after_plan(program: str, words: Sequence[str], plan: "Plan") -> str:
    """How a plan goes on; `words` are the config file and the options that changed it."""
    if plan.fits:
        return f"next: {_line(program, 'prepare', *words)}"
    return f"next: change what the first notes name, then {_line(program, 'plan', *words)} again"


def after_preparing(program: str, words: Sequence[str]) -> str:
    """How a prepared cache goes on."""
    return f"next: {_line(program, 'train', *words)}"


def after_training(program: str, run: Path, config_file: str, has_options: bool) -> str:
    """The result of `train` and the commands that go on from it.

    They name the run's own config where options were given besides `config_file`, which they would need too.
    """
    newest = checkpoints_in(run / FOLDER)[-1]
    config = str(run / "config.yaml") if has_options else config_file
    previews = read_previews(run)
    best = previews.best()
    lines = [f"{run} is trained; its newest checkpoint is {newest}"]
    if previews.scored:
        lines.append(f"scored: {score_text(previews.scored[-1], previews.start)}")
    if best is not None:
        lines.append(f"the best of its previews that is kept (--checkpoint best): {best_text(best, previews)}")
    if (run / PAGE).is_file():
        lines.append(f"  see how it went: {run / PAGE}, samples beside the start's and curves")
    return "\n".join(
        [
            *lines,
            f'  look at it:      {_line(program, "sample", config)} --prompts "..."',
            f"  export it:       {_line(program, 'export', config)}",
        ]
    )


def after_sampling(program: str, words: Sequence[str], config: Config, request: SampleRequest) -> str:
    """How samples go on."""
    if request.checkpoint == "base":
        return f"next: {_line(program, 'train', *words)}"
    chosen = () if request.checkpoint == "latest" else ("--checkpoint", request.checkpoint)
    beside = _line(program, "compare", f"{config.run}:base", f"{config.run}:{request.checkpoint}")
    there = "" if Path(request.checkpoint).exists() else f"; beside the start's: {beside}"
    return f"next: {_line(program, 'export', *words, *chosen)}{there}"


def after_export(out: Path, request: ExportRequest) -> str:
    """How an export is used."""
    if request.format == "comfyui":
        return f"next: {out / 'README.md'} says where ComfyUI takes it from"
    told = f"next: {out / 'README.md'} has the Python that loads it"
    return told if request.push else f"{told}; `hf upload OWNER/NAME {out}` puts it on the Hub"


def after_ranking(program: str, words: Sequence[str], out: Path, request: RankRequest) -> str:
    """How a table of preferences goes on; it gets a cache and a run of its own, since it holds other winners."""
    own = ("--data.cache", f"{out}-cache", "--run", f"{out}-run")
    options = ("--data.source", str(out), "--data.supervision", request.supervision, *own)
    return f"next: {_line(program, 'prepare', *words, *options)}"


def after_comparing(program: str, names: Sequence[str]) -> str:
    """How runs that were compared go on."""
    name, _, checkpoint = names[-1].partition(":")
    chosen = ("--checkpoint", checkpoint) if checkpoint else ()
    run = run_of(name)
    if not (run / "config.yaml").is_file():
        return f"next: {program} export with the config.yaml of the one that looks better"
    told = _line(program, "export", str(run / "config.yaml"), *chosen)
    return f"next: {told}, or with the run that looks better"


def _line(program: str, command: str, *words: str) -> str:
    return shlex.join([program, command, *words])
