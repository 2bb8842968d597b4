"""Wording of what is wrong with a key, a value or a path, and the nearest name that is right. Imports no torch."""

import dataclasses
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


def nearest(name: str, valid: list[str]) -> str | None:
    """The name in `valid` that is most similar to `name`, or None if none is similar."""
    return next(iter(get_close_matches(name, valid, n=1, cutoff=0.6)), None)


def similar_path(path: Path) -> str:
    """ "; did you mean …?" if the first missing part of `path` is similar to an existing name; else nothing.

    A link to nothing is said to be one.
    """
    for parent in path.parents:
        if parent.is_dir():
            missing = path.relative_to(parent).parts[0]
            if (parent / missing).is_symlink() and not (parent / missing).exists():
                return f"; {parent / missing} is a link to {(parent / missing).readlink()}, which is not there"
            if (parent / missing).exists():
                return ""
            guess = nearest(missing, sorted(entry.name for entry in parent.iterdir()))
            return f"; did you mean {parent / guess}?" if guess else ""
    return ""


def first_line(error: BaseException, limit: int = 200) -> str:
    """The first line that an error says, cut at `limit` characters, for libraries put stack traces into their messages;
    its kind if it says nothing."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (text or type(error).__name__)[:limit]


def shown(value: Any) -> str:
    """`value` as YAML would write it, on one line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def describe(hint: Any, value: Any = None) -> str:
    """Description of the values of type `hint`; for a choice also the word that is nearest to `value`, if there is a
    value."""
    if get_origin(hint) is Literal:
        words = [str(word) for word in get_args(hint)]
        guess = None if value is None else nearest(str(value), words)
        return f"one of {', '.join(words)}" + (f"; did you mean {guess}?" if guess else "")
    if get_origin(hint) in (Union, UnionType):
        # a choice last: it may end in a question
        parts = sorted(get_args(hint), key=lambda part: get_origin(part) is Literal)
        return " or ".join("null" if part is NoneType else describe(part, value) for part in parts)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if get_origin(inner[0]) is Literal:
            return f"a list of words among {', '.join(map(str, get_args(inner[0])))}"
        plural = {str: "texts", int: "whole numbers", float: "numbers"}[inner[0]]
        return f"a list of {plural}" if inner[1] is Ellipsis else f"a list of {len(inner)} {plural}"
    if dataclasses.is_dataclass(hint):
        return f"a section with the keys {', '.join(f.name for f in dataclasses.fields(hint))}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]
