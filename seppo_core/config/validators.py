"""Checks of single values of a config: each names key, value and limit."""

from math import inf


def at_least(section: str, values, least: float, *names: str) -> None:
    """Raises ValueError if a field of `values` is below `least`; null passes."""
    for name in names:
        value = vars(values)[name]
        if value is not None and not least <= value < inf:
            raise ValueError(f"{section}.{name}={value} must be at least {least}")


def above(section: str, values, limit: float, *names: str) -> None:
    """Raises ValueError if a field of `values` is not greater than `limit`; null passes."""
    for name in names:
        value = vars(values)[name]
        if value is not None and not limit < value < inf:
            raise ValueError(f"{section}.{name}={value} must be greater than {limit}")


def between(section: str, values, least: float, most: float, *names: str) -> None:
    """Raises ValueError if a field of `values` does not lie in `least` to `most`."""
    for name in names:
        value = vars(values)[name]
        if not least <= value <= most:
            raise ValueError(f"{section}.{name}={value} must lie in {least} to {most}")


def share(section: str, values, *names: str) -> None:
    """Raises ValueError if a field of `values` does not lie in 0 to 1."""
    for name in names:
        value = vars(values)[name]
        if not 0 <= value <= 1:
            raise ValueError(f"{section}.{name}={value} is a share; it must lie in 0 to 1")
