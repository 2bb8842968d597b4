"""Our metrics beside other people's, in an environment of its own: `make parity`. Elsewhere nothing here is collected.

Each comparison goes through `compare`; the figures of a whole run that passed end as a table in docs/parity.md.
"""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import Tensor

# asked of the plugin that makes torchvision importable: without it the comparisons could only fail
collect_ignore_glob = [] if "tests.parity.operators" in sys.modules else ["test_*.py"]


@dataclass(frozen=True)
class Figure:
    metric: str
    against: str
    difference: float
    tolerance: float


FIGURES: list[Figure] = []


@pytest.fixture
def compare() -> Callable[[str, str, Tensor, Tensor, float], None]:
    """compare(metric, against, ours, theirs, tolerance): `metric` a column from pictures or frames to its number, or a
    part by name; `against` a few words with the distributions' names in them."""

    def check(metric: str, against: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
        assert ours.shape == theirs.shape and ours.numel() > 0
        difference = (ours.double() - theirs.double()).abs().max().item()
        FIGURES.append(Figure(metric, against, difference, tolerance))
        assert difference <= tolerance, (
            f"{metric} differs from {against} by {difference:.3g}, more than {tolerance:.3g}"
        )

    return check


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    whole = session.config.args == ["tests/parity"] and not session.config.option.keyword
    if FIGURES and whole and exitstatus == 0:
        path = Path(session.config.rootpath) / "docs" / "parity.md"
        path.write_text(HEAD + table(FIGURES), encoding="utf-8")


HEAD = """# Metrics beside other people's

Written by `make parity`, which runs our networks and formulas beside independent implementations, on the same random
weights and inputs, in an environment of its own. Each row is the largest difference seen, rounded up. A row that has
the name of a column in the tables goes all the way from pictures or frames to that number; other rows are parts of it.

"""


def table(figures: list[Figure]) -> str:
    """The largest difference of each pair; to the name of every distribution its version is added."""
    largest: dict[tuple[str, str], Figure] = {}
    for figure in figures:
        key = (figure.metric, figure.against)
        if key not in largest or figure.difference > largest[key].difference:
            largest[key] = figure
    rows = ["| metric | compared with | largest difference | allowed |", "|---|---|---|---|"]
    for figure in largest.values():
        against = re.sub(r"[\w-]+", _versioned, figure.against)
        rows.append(f"| {figure.metric} | {against} | {rounded_up(figure.difference)} | {figure.tolerance:g} |")
    return "\n".join(rows) + f"\n\nRandom weights, torch {torch.__version__}, CPU.\n"


def rounded_up(value: float) -> str:
    """One digit, never less than the value: the last digits change from machine to machine."""
    if value == 0:
        return "0"
    power = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(value / power - 1e-9) * power:.0e}"


def _versioned(word: re.Match[str]) -> str:
    try:
        return f"{word[0]} {version(word[0])}"
    except ModuleNotFoundError:
        return word[0]
