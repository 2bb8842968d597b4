"""`python -m benchmarks table2`."""

from collections.abc import Sequence

from benchmarks.evaluation.paper.tables import run


def main(argv: Sequence[str] | None = None) -> int:
    """See `tables.run`."""
    return run(2, argv)
