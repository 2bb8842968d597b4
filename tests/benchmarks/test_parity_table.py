"""docs/parity.md, which `make parity` writes: a row for every column, and none beyond what is allowed."""

from pathlib import Path

import pytest

from benchmarks.evaluation.metrics.catalogue import METRICS
from seppo_core.judging.catalogue import ANY_OPEN_CLIP, SCORERS

TABLE = Path(__file__).parents[2] / "docs" / "parity.md"
COLUMNS = [*SCORERS, ANY_OPEN_CLIP, *METRICS]


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_has_a_row_of_its_own(column, rows):
    """By its exact name: each version, convention, resize and geometry, from pictures or frames to the number."""
    assert column in [name for name, *_ in rows], f"no row {column!r} in {TABLE.name}; run `make parity`"


def test_no_row_is_left_of_a_column_that_is_gone(rows):
    beginnings = {column.partition("[")[0] for column in COLUMNS}
    assert {name for name, *_ in rows if name.partition("[")[0] in beginnings} == set(COLUMNS)


def test_no_difference_is_beyond_what_is_allowed(rows):
    assert len(rows) > len(COLUMNS)
    for name, against, difference, allowed in rows:
        # rounded up to one digit, so that it may stand one step above
        assert float(difference) <= 1.9 * float(allowed), (name, against)
