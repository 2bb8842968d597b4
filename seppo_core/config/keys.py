"""The dotted keys of a schema, their types and their old names. Imports no torch."""

import warnings
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from seppo_core.config.aliases import RENAMED


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
