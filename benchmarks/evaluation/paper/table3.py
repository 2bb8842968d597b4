"""`python -m benchmarks table3`."""

from collections.abc import Sequence

from benchmarks.evaluation.paper.tables import run


def main(argv: Sequence[str] | None = None) -> int:
    """See `tables.run`."""
    return run(3, argv)
