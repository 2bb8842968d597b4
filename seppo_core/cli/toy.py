"""`init toy`: a tiny base, winners among its own samples, and the config of a run that improves it in minutes."""

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from seppo_core.cli.recipes import shipped
from seppo_core.cli.yaml_text import scalar
from seppo_core.config.cpu import one_thread_if_tiny
from seppo_core.config.loader import load_config
from seppo_core.config.options import RankRequest
from seppo_core.config.schema import Config
from seppo_core.io.atomic import save_text, whole_folder
from seppo_core.io.lazy import import_large
from seppo_core.io.quiet import quiet_loading_bars
from seppo_core.run.history import read_lines
from seppo_core.toy.captions import Modality, train_captions

BASES = "benchmarks/experiments/toy/task/bases"
CONFIG = "toy.yaml"


class Size(NamedTuple):
    """What is laid out for a modality."""

    bases: dict[str, str]
    """Folders of the product's base, by the name that they get."""
    prompts: int
    samples: int
    """Of each prompt, of which the best is the winner."""
    batch: int
    """Samples drawn at once."""
    takes: str
    """How long it takes, in words."""


SIZES: dict[Modality, Size] = {
    "image": Size({"base": "image"}, prompts=192, samples=4, batch=64, takes="a quarter of a minute"),
    "video": Size({"base": "video", "motion": "motion"}, prompts=48, samples=8, batch=16, takes="about a minute"),
}


def lay_out(out: Path, modality: Modality, schema: type[Config], commands_module: str) -> str:
    """Writes the folder `out`, whole or not at all; returns what it holds, in words. FileExistsError if it exists."""
    size, recipe = SIZES[modality], shipped(f"configs/toy/{modality}_init.yaml")
    kind = {"image": "pictures", "video": "clips"}[modality]
    with whole_folder(out) as folder:
        print(
            f"a tiny base draws {size.prompts * size.samples} {kind}, {size.samples} for a prompt, and an exact score "
            f"chooses the best of them as winners: {size.takes} of processor",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        for name, base in size.bases.items():
            shutil.copytree(shipped(f"{BASES}/{base}"), folder / name)
        # while it is written it goes by a name of its own
        save_text(folder / CONFIG, _config(recipe, modality, folder))
        base, best = _winners(load_config(folder / CONFIG, schema), folder, size, modality, commands_module)
        save_text(folder / CONFIG, _config(recipe, modality, out))
    return (
        f"{out / 'base'}: a tiny base, {out / 'winners'}: {size.prompts} {kind}, each the best of {size.samples} the "
        "base drew for its prompt\n"
        f"Plain diffusers opens {out / 'base'} after `import seppo_core.models.patch_vae`, its autoencoder's class.\n"
        f"The exact score of all samples is {base:.3f} on average, of the winners {best:.3f}.\n"
        f"{out / CONFIG} trains it with SePPO and scores samples of other prompts before, during and after"
    )


def _config(recipe: Path, modality: Modality, out: Path) -> str:
    """The recipe's text with the paths of `out`."""
    text = recipe.read_text(encoding="utf-8")
    text = text.replace(f"configs/toy/{recipe.name}", str(out / CONFIG))
    for name, base in SIZES[modality].bases.items():
        text = text.replace(f"{BASES}/{base}", scalar(str(out / name)))
    for name in ("run", "winners", "cache"):
        text = text.replace(f"runs/init/{modality}/{name}", scalar(str(out / name)))
    return text


def _winners(config: Config, folder: Path, size: Size, modality: Modality, commands_module: str) -> tuple[float, float]:
    """Writes the winners as anybody's pictures or clips lie in a folder; the mean scores of all samples and of them."""
    known = train_captions(modality)
    ranked, winners = folder / "ranked", folder / "winners"
    request = RankRequest(
        judge=config.preview.judge, samples=size.samples, batch_size=size.batch, out=str(ranked),
        prompts=tuple(known[number * len(known) // size.prompts] for number in range(size.prompts)),
    )  # fmt: skip
    one_thread_if_tiny(config.model.base)
    commands = import_large(commands_module)
    quiet_loading_bars()
    with contextlib.redirect_stdout(io.StringIO()):
        # what it says is of a folder that does not stay
        commands.rank(config, request)
    rows, scores = read_lines(ranked / "metadata.jsonl"), read_lines(ranked / "scores.jsonl")
    winners.mkdir()
    lines = []
    for number, row in enumerate(rows):
        file = ranked / row["file_name"]
        shutil.move(file, winners / f"{number:04d}{file.suffix}")
        lines.append(json.dumps({"file_name": f"{number:04d}{file.suffix}", "caption": row["caption"]}) + "\n")
    save_text(winners / "metadata.jsonl", "".join(lines))
    shutil.rmtree(ranked)
    return fmean(one["score"] for one in scores), fmean(row["score"] for row in rows)
