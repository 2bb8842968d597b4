"""The dotted keys of a schema, their types, their old names, and the nearest key to a wrong one. Imports no torch."""

import warnings
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from seppo_core.config.aliases import RENAMED
from seppo_core.config.messages import nearest


def key_types(schema: type) -> dict[str, Any]:
    """The type of every dotted key of `schema`, in order; sections are not keys."""
    types = {}
    hints = get_type_hints(schema)
    for name in (field.name for field in fields(schema)):
        if is_dataclass(hints[name]):
            types |= {f"{name}.{key}": inner for key, inner in key_types(hints[name]).items()}
        else:
            types[name] = hints[name]
    return types


def sections(schema: type) -> list[str]:
    """Names of the nested sections of `schema`."""
    hints = get_type_hints(schema)
    return [field.name for field in fields(schema) if is_dataclass(hints[field.name])]


def current_names(values: Mapping[str, Any], source: str, warn: bool) -> dict[str, Any]:
    """`values` by the names that their dotted keys have now. `source` starts the messages.

    ValueError if a key is given by its old and by its new name.
    """
    old = [key for key in values if key in RENAMED]
    for key in old:
        if RENAMED[key] in values:
            raise ValueError(f"{source}{key} is the old name of {RENAMED[key]}, which is given too; remove {key}")
    if old and warn:
        names = ", ".join(f"{key} is now {RENAMED[key]}" for key in old)
        warnings.warn(f"{source}keys have new names: {names}; the old ones still work", FutureWarning, stacklevel=2)
    return {RENAMED.get(key, key): value for key, value in values.items()}


def did_you_mean(key: str, schema: type) -> str:
    """The key of `schema` that `key` most likely stands for, as a question; else what keys there are."""
    types = key_types(schema)
    section, _, name = key.rpartition(".")
    siblings = {valid.rpartition(".")[2]: valid for valid in types if valid.rpartition(".")[0] == section}
    top = [] if section else sections(schema)
    # most often a typing error, else the right key in the wrong section
    guess = nearest(name, [*siblings, *top])
    guesses = [siblings.get(guess, guess)] if guess else [v for v in types if v.rpartition(".")[2] == name]
    if guesses:
        return f"did you mean {' or '.join(guesses)}?"
    return f"{section or 'the file'} has {', '.join([*siblings, *top])}"
