"""Counts and lists in sentences: one prompt, two prompts, and a few of many by name."""

from collections.abc import Sequence

NAMED = 5
"""Items of a list that are called by their names."""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 prompt`, `2 prompts`, `0 prompts`; `plural` if it does not end in s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def some(names: Sequence[str], named: int = NAMED) -> str:
    """The first of `names`, and how many more there are."""
    more = len(names) - named
    return ", ".join(map(str, names[:named])) + (f" and {more} more" if more > 0 else "")
