"""The table of families, docs/families.md: what the contract tests of each, counted from the tests themselves.

Nothing is written down twice. A row is a row of `FAMILIES`; a count is that of the cases which apply to it; a size is
that of the latents they are run at.
"""

import re
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from inspect import getmembers, isfunction
from itertools import product
from pathlib import Path
from types import FunctionType, ModuleType
from typing import get_type_hints

from benchmarks.experiments.full_size.report import millions
from benchmarks.experiments.full_size.result import read_results
from seppo_core.models.adapter import Adapter
from tests.contract.families import FAMILIES, Family
from tests.contract.plain import load_lora_by_peft

FILES = sorted(path for path in Path(__file__).parent.glob("test_*.py") if path.name != "test_table.py")
FULL_SIZE = Path(__file__).parents[2] / "docs" / "full_size.json"
MODULES = [import_module(f"tests.contract.{path.stem}") for path in FILES]
HEAD = """\
# Families

What `tests/contract` runs for each family: a tiny pipeline of the family's own diffusers class, with random weights, on
a CPU. Counted from the tests, and written by `SEPPO_WRITE=1 python -m pytest tests/contract/test_table.py`, which fails
without the variable where this file is not what they yield.

- Contract: cases that hold the adapter to its pipeline, alone and in training; and mistakes, each made on purpose, that
  have to break the comparison.
- LoRA, Full, Export: the cases about training a LoRA, about training the weights, and about plain diffusers drawing the
  same from what was exported. In brackets what loads the LoRA, what training can be kept to, and what can be exported.
- Largest run: where `python -m benchmarks full_size` has run the recipe of a published base on random weights, its
  parameters and the size (docs/full_size.md has the rest); else the latents of these cases, c × [f] × h × w.

| Family | Pipeline | Contract | LoRA | Full | Export | Largest run |
|---|---|---|---|---|---|---|
"""
LORA, FULL, EXPORT, MISTAKE = r"(?i)lora", r"full|frozen_copy", r"exported", r"breaks_parity|notices"
"""What a case's name says that it is about."""


def cases(module: ModuleType, family: Family) -> Iterator[str]:
    """The cases of a module that apply to a family: `test[argument-argument]`, the family left out."""
    for name, function in getmembers(module, isfunction):
        if name.startswith("test_"):
            choices = [_choices(names, values, family) for names, values in _parameters(module, function)]
            yield from (f"{name}[{'-'.join(sum(case, ()))}]" for case in product(*choices))


def _parameters(module: ModuleType, function: FunctionType) -> Iterator[tuple[list[str], list[tuple]]]:
    """Names of the arguments, and their values, of each of a test's parametrisations."""
    shared = vars(module).get("pytestmark", [])
    for mark in [*(shared if isinstance(shared, list) else [shared]), *vars(function).get("pytestmark", [])]:
        if mark.name == "parametrize":
            names, values = mark.args
            names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
            yield names, [tuple(value) if len(names) > 1 else (value,) for value in values]


def _choices(names: list[str], values: list[tuple], family: Family) -> list[tuple[str, ...]]:
    """The values that go with the family, as texts."""
    place = next((place for place, name in enumerate(names) if name in ("family", "name")), None)
    if place is None:
        return [tuple(map(str, value)) for value in values]
    of = [(value[place].name if isinstance(value[place], Family) else value[place], value) for value in values]
    return [tuple(str(x) for i, x in enumerate(value) if i != place) for name, value in of if name == family.name]


def adapter_class(family: Family) -> type[Adapter]:
    return family.wrap.func if isinstance(family.wrap, partial) else family.wrap


def row(family: Family) -> str:
    found = [case for module in MODULES for case in cases(module, family)]
    kind = adapter_class(family)
    count = {about: sum(bool(re.search(about, case)) for case in found) for about in (LORA, FULL, EXPORT, MISTAKE)}
    exports = ["LoRA", "pipeline", *(["motion"] if "motion" in kind.trainable else [])]
    height, width = family.size
    frames = f"{family.frames} frames of " if len(family.latent_shape) == 4 else ""
    latents = f"{' × '.join(map(str, family.latent_shape))}: {frames}{height} × {width} pixels"
    cells = [
        family.name,
        get_type_hints(kind)["pipeline"].__name__,
        f"{len(found) - count[MISTAKE]} cases, {count[MISTAKE]} mistakes",
        f"{count[LORA]} ({'peft' if family.load_lora is load_lora_by_peft else 'load_lora_weights'})",
        f"{count[FULL]} ({', '.join(kind.trainable)})",
        f"{count[EXPORT]} ({', '.join(exports)})",
        largest(family) or latents,
    ]
    return f"| {' | '.join(cells)} |\n"


def largest(family: Family) -> str:
    """What of the family was run at the size of a published base; "" where nothing was."""
    found = [result for result in read_results(FULL_SIZE).values() if result.family == family.name]
    if not found:
        return ""
    most = max(found, key=lambda result: (result.denoiser, result.trained))
    less = f", {most.less}" if most.less else ""
    return f"{most.about}{less}: {millions(most.denoiser)} parameters, {most.size}"


def table() -> str:
    """The whole file."""
    return HEAD + "".join(row(family) for family in FAMILIES)
