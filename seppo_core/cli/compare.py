"""`compare`: runs or checkpoints side by side as one page. Without torch, unless samples have to be drawn."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from seppo_core.cli.checks import check_cached
from seppo_core.config.loader import load_config, read_values
from seppo_core.config.messages import similar_path
from seppo_core.config.options import CompareRequest, SampleRequest
from seppo_core.config.schema import Config
from seppo_core.io.lazy import import_large
from seppo_core.io.quiet import quiet_loading_bars
from seppo_core.report.compare_page import LEAD, SERIES, Compared, compare_page
from seppo_core.report.page import save_page
from seppo_core.report.sheet import Sheet, sheet_of
from seppo_core.report.tiles import Side
from seppo_core.run.checkpoint_names import FOLDER as CHECKPOINTS
from seppo_core.run.checkpoint_names import update_of
from seppo_core.run.find_checkpoint import checkpoint_label, find_checkpoint
from seppo_core.run.history import read_lines
from seppo_core.run.names import run_of
from seppo_core.run.previews import FOLDER as PREVIEWS
from seppo_core.run.previews import PreviewRecord, Previews
from seppo_core.run.status import Status, read_status

INDEX = "index.html"
SEEDS = (0, 1, 2, 3)
SMALL = "small"
_MADE = re.compile(rf"samples|{SMALL}|\d+(-.+)?\.(png|webp)")
"""Names of what is in the folder of a page before the page."""


class Named(NamedTuple):
    """A run's folder, and the checkpoint of it that is asked for; None for the newest of what there is."""

    run: Path
    checkpoint: str | None


@dataclass(frozen=True)
class One:
    """One of those that are compared, before it is known what its samples are."""

    wanted: Named
    status: Status
    run: str
    name: str
    preview: PreviewRecord | None


def compare(names: Sequence[str], request: CompareRequest, schema: type[Config], commands_module: str) -> Path:
    """Writes the page of the runs or checkpoints that `names` call; returns it.

    ValueError or FileNotFoundError for a name that is none, before anything is loaded or drawn.
    """
    if not 2 <= len(names) <= len(SERIES):
        raise ValueError(
            f"compare takes 2 to {len(SERIES)} runs or checkpoints, not {len(names)}: RUN, RUN:best, RUN:60"
        )
    wanted = [read_name(name) for name in names]
    found = [_one(one, wanted) for one in wanted]
    out = _folder(wanted, request)
    prompts, how, sides = None, "", None
    if not request.draws:
        prompts, how, sides = _previews(found, out)
    if sides is None:
        prompts, how, sides = _drawn(found, request, schema, commands_module, out)
    compared = [
        Compared(
            one.name, one.run, one.wanted.checkpoint == "best", one.status, side, preview, _settings(one.wanted.run)
        )
        for one, (side, preview) in zip(found, sides, strict=True)
    ]
    save_page(out / INDEX, compare_page(prompts, compared, how, out))
    return out / INDEX


def read_name(name: str) -> Named:
    """What RUN, RUN:CHECKPOINT or the path of a checkpoint calls; RUN may be its config.

    FileNotFoundError if there is no such run.
    """
    path = run_of(name)
    if (path / "config.yaml").is_file():
        return Named(path, None)
    if path.exists():
        run = path.absolute().parent.parent
        if (run / "config.yaml").is_file():
            return Named(run, path.stem if path.is_file() else path.name)
        raise FileNotFoundError(f"{name} is neither a run (no config.yaml in it) nor a checkpoint of one")
    run, colon, checkpoint = name.rpartition(":")
    if colon and checkpoint and (run_of(run) / "config.yaml").is_file():
        return Named(run_of(run), checkpoint)
    raise FileNotFoundError(
        f"{run or name} is no run{similar_path(Path(run or name))}; name the folder that `run` names in a config, "
        "followed by :best or :60 for a checkpoint"
    )


def _one(wanted: Named, all_of_them: Sequence[Named]) -> One:
    status = read_status(wanted.run)
    preview, what = _preview(wanted, status.previews)
    alike = {one.run.absolute() for one in all_of_them if one.run.name == wanted.run.name}
    run = wanted.run.name if len(alike) == 1 else str(wanted.run)
    return One(wanted, status, run, f"{run}, {what}", preview)


def _preview(wanted: Named, previews: Previews) -> tuple[PreviewRecord | None, str]:
    """The preview of what is asked for, and how that is called."""
    newest = previews.all[-1] if previews.all else None
    if wanted.checkpoint is None and newest is not None:
        return newest, f"update {newest.update}" if newest.update else "start"
    if wanted.checkpoint == "base":
        return previews.at(0), "start"
    path = find_checkpoint(wanted.run, wanted.checkpoint or "latest")
    if path.parent.name != CHECKPOINTS:
        return None, checkpoint_label(path)
    best = "best, " if wanted.checkpoint == "best" else ""
    return previews.at(update_of(path)), f"{best}update {update_of(path)}"


def _folder(wanted: Sequence[Named], request: CompareRequest) -> Path:
    called = [_file_name(":".join(filter(None, (one.run.absolute().name, one.checkpoint)))) for one in wanted]
    out = wanted[0].run.parent / f"compare-{'-'.join(called)}" if request.out is None else Path(request.out)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _is_ours(out))):
        raise ValueError(f"{out} holds other files; name a new or an empty folder with --out")
    return out


def _is_ours(out: Path) -> bool:
    """Whether a comparison wrote this folder, or was broken off before it wrote its page."""
    begun = (out / "samples").is_dir() and all(_MADE.fullmatch(path.name) for path in out.iterdir())
    page = out / INDEX
    return begun or (page.is_file() and LEAD in page.read_text(encoding="utf-8", errors="replace"))


def _previews(found: Sequence[One], out: Path) -> tuple[tuple[str, ...], str, list[tuple[Side, PreviewRecord]] | None]:
    """Prompts, origin and samples, if the previews of all are of the same."""
    first = found[0].preview
    if not all(one.preview is not None and one.preview.drawing.same_samples(first.drawing) for one in found):
        return (), "", None
    drawing, sides = first.drawing, []
    for number, one in enumerate(found):
        try:
            sides.append(
                (Side(one.name, _copied(one, out, f"{number}-{one.preview.file}"), one.preview.scores), one.preview)
            )
        except (OSError, ValueError, SyntaxError) as error:
            print(f"the preview of {one.name} cannot be used ({error}); samples are drawn")
            return (), "", None
    how = f"The runs' previews: {drawing.steps} steps, guidance {drawing.guidance_scale:g}, seed {drawing.seed}."
    if any(one.preview.drawing != drawing for one in found):
        how = "The runs' previews, which were drawn by different solvers, steps or guidance: see the settings below."
    return drawing.prompts, how, sides


def _copied(one: One, out: Path, name: str) -> Sheet:
    """The samples of a preview in a copy, so that the page can be taken elsewhere with its folder."""
    drawing, beside = one.preview.drawing, one.preview.beside
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(one.wanted.run / PREVIEWS / one.preview.file, out / name)
    return sheet_of(out / name, *drawing.grid, grid=int(beside), grids=1 + beside, copies=out / SMALL)


def _drawn(
    found: Sequence[One], request: CompareRequest, schema: type[Config], commands_module: str, out: Path
) -> tuple[list[str], str, list[tuple[Side, None]]]:
    """Prompts, origin and samples that are drawn from all alike."""
    configs = [load_config(one.wanted.run / "config.yaml", schema, warn=False) for one in found]
    p, seeds = configs[0].preview, request.seeds or SEEDS
    drawing = SampleRequest(
        prompts=request.prompts or (() if request.prompt_file else p.prompts), prompt_file=request.prompt_file,
        seeds=seeds, scheduler=request.scheduler or p.scheduler, steps=request.steps or p.steps, lossless=True,
        guidance_scale=p.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        batch_size=request.batch_size,
    )  # fmt: skip
    for config in configs:
        check_cached(config, drawing)
    # only now is torch needed
    modality = import_large(commands_module)
    commands = import_large("seppo_core.cli.commands")
    quiet_loading_bars()
    prompts, sides = commands.prompts_of(configs[0], drawing), []
    for number, (one, config) in enumerate(zip(found, configs, strict=True)):
        folder = out / "samples" / f"{number}-{_file_name(one.name)}"
        # the folder may have been moved since it was trained
        config = replace(config, run=str(one.wanted.run))
        modality.sample(config, replace(drawing, checkpoint=one.wanted.checkpoint or "latest", out=str(folder)))
        files = {(line["prompt"], line["seed"]): folder / line["file"] for line in read_lines(folder / "samples.jsonl")}
        read = modality.media(config).read
        grid = commands.save_grid(
            [[read(files[prompt, seed]) for seed in seeds] for prompt in prompts], out / str(number), config
        )
        size = (config.data.width, config.data.height)
        sheet = sheet_of(grid, size, len(prompts), len(seeds), copies=out / SMALL)
        sides.append((Side(one.name, sheet), None))
    told = ", ".join(map(str, seeds))
    how = f"Drawn for this page: {drawing.steps} steps, guidance {drawing.guidance_scale:g}, seeds {told}."
    return prompts, how, sides


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text)


def _settings(run: Path) -> dict[str, Any]:
    """The run's settings by dotted key."""
    found: dict[str, Any] = {}
    for section, value in read_values(run / "config.yaml").items():
        found |= (
            {f"{section}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {section: value}
        )
    return found
