"""The table of families in docs/families.md, which `python -m tests.contract.table` writes.

Nothing is written down twice: a row is a row of the contract, what it says of a family is read from its adapter.
"""

from pathlib import Path

from benchmarks.experiments.full_size.report import millions, read_results
from tests.contract.family import Family
from tests.contract.rows import FAMILIES

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "families.md"
FULL_SIZE = ROOT / "docs" / "full_size.json"
HEAD = """\
# Families

`tests/contract` runs every row: a tiny pipeline of the family's own diffusers class, with random weights, on a CPU. The
cases hold the adapter to its pipeline, alone and in training; train a LoRA and the weights; and compare what plain
diffusers draws from the exports. `python -m tests.contract.table` writes this file.

- Pipeline: the diffusers class that a base has to be saved from, and that an export loads as.
- LoRA: what loads an exported LoRA.
- Trained: what training can be kept to (`tune.scope`).
- Exports: what `export` writes.
- Largest run: if `python -m benchmarks full_size` has run a published base's recipe on random weights, its parameters
  and the size (docs/full_size.md has the rest); else the latents of the contract's cases, c × [f] × h × w.

| Family | Pipeline | LoRA | Trained | Exports | Largest run |
|---|---|---|---|---|---|
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


def table() -> str:
    """The whole of docs/families.md."""
    return HEAD + "".join(row(family) for family in FAMILIES)


if __name__ == "__main__":
    FILE.write_text(table(), encoding="utf-8")
