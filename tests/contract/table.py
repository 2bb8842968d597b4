"""The tables of docs/families.md, which `python -m tests.contract.table` writes.

Nothing is written down twice: a row is a row of the contract, what it says of a family is read from its adapter.
"""

from pathlib import Path

from benchmarks.experiments.full_size.report import millions, read_results
from benchmarks.experiments.toy.publish import between
from tests.contract.family import Family
from tests.contract.rows import FAMILIES
from tests.plan.cases import planned

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "families.md"
FULL_SIZE = ROOT / "docs" / "full_size.json"
HEAD = """\
| Family | Pipeline | LoRA | Trained | Exports | Largest run |
|---|---|---|---|---|---|
"""
RECIPES = """\
| Recipe | Hardware | `prepare` | `train` | Hours |
|---|---|---|---|---|
"""


def row(family: Family) -> str:
    spec = family.model.spec
    height, width = family.size
    frames = f"{family.frames} frames of " if family.is_video else ""
    cells = [
        family.name,
        spec.pipeline,
        "peft" if family.adapter_class.lora_format == "peft" else "load_lora_weights",
        ", ".join(spec.scopes),
        ", ".join(["LoRA", "pipeline", *(["motion"] if "motion" in spec.scopes else [])]),
        largest(family) or f"{' × '.join(map(str, family.latent_shape))}: {frames}{height} × {width} pixels",
    ]
    return f"| {' | '.join(cells)} |\n"


def largest(family: Family) -> str:
    """What of the family was run at the size of a published base; "" if nothing was."""
    found = [result for result in read_results(FULL_SIZE).values() if result.family == family.name]
    if not found:
        return ""
    most = max(found, key=lambda result: (result.denoiser, result.trained))
    less = f", {most.less}" if most.less else ""
    return f"{most.about}{less}: {millions(most.denoiser)} parameters, {most.size}"


def recipe(path: Path) -> str:
    """A recipe's line: what its header says."""
    told = planned(path)
    link = f"[{path.stem}](../{path.relative_to(ROOT).as_posix()})"
    return f"| {link} | {told.hardware} | {told.prepare:g} GiB | {told.train:g} GiB | {told.hours:g} |\n"


def page() -> str:
    """The whole of docs/families.md: what is written by hand, with both tables."""
    text = between(FILE.read_text(encoding="utf-8"), "families", (HEAD + "".join(map(row, FAMILIES))).strip())
    paths = [*sorted(ROOT.glob("configs/image/*.yaml")), *sorted(ROOT.glob("configs/video/*.yaml"))]
    return between(text, "recipes", (RECIPES + "".join(map(recipe, paths))).strip())


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
