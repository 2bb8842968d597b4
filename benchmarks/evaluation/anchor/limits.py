"""What the numbers on the command line of `anchor` have to be. Loads no torch."""

COUNTS = ("items", "draws", "bins", "samples", "batch_size")


def check_counts(*, points: int | None = None, **counts: int) -> None:
    """Raises ValueError for a count of `COUNTS` below 1, or draws that do not fill the bins evenly."""
    for name, value in {**counts, "points": 1 if points is None else points}.items():
        if value < 1:
            raise ValueError(f"--{name.replace('_', '-')} {value} must be at least 1")
    if counts["draws"] % counts["bins"]:
        raise ValueError(
            f"--draws {counts['draws']} is not a multiple of --bins {counts['bins']}; use {counts['bins'] * 4}, say"
        )
