"""What a wrong key was most likely meant to be, and where it belongs. Imports no torch."""

from difflib import get_close_matches
from typing import Any, get_type_hints

from seppo_core.config.aliases import FOREIGN, NO_KEYS
from seppo_core.config.keys import key_types, sections
from seppo_core.config.messages import nearest
from seppo_core.config.variants import Variants, every_key

ALIKE = 0.8
"""How similar a name of another section has to be."""
SHOWN = 3


def wrong_key(key: str, value: Any, schema: type) -> str:
    """What is wrong with `key`, which `schema` does not have; of an unknown section, with each of its keys."""
    known = key.rpartition(".")[2] in sections(schema) or _alike(key, schema) is not None
    if isinstance(value, dict) and value and not known:
        return "; ".join(wrong_key(f"{key}.{name}", inner, schema) for name, inner in value.items())
    return f"{key} is not a key; {did_you_mean(key, schema)}"


def did_you_mean(key: str, schema: type) -> str:
    """Where `key` belongs, or which one it most likely stands for, as a question; else what keys there are."""
    section, _, name = key.rpartition(".")
    if section and name in sections(schema):
        return f"{name} is a section of its own; write it at the left margin, not under {section}"
    if name in NO_KEYS:
        return NO_KEYS[name]
    alike, same = _alike(key, schema), [one for one in every_key(schema) if one.rpartition(".")[2] == name]
    guesses = [_with_its_variants(one, schema) for one in same]
    if alike is not None and alike not in same:
        guesses.append(alike)
    if guesses := guesses or _elsewhere(name, schema):
        return f"did you mean {' or '.join(guesses)}?"
    there = section if section in sections(schema) else ""
    return f"{there or 'the file'} has {', '.join([*_siblings(there, schema), *([] if there else sections(schema))])}"


def _siblings(section: str, schema: type) -> dict[str, str]:
    """The keys of a section, "" being the file itself, by their own names."""
    return {key.rpartition(".")[2]: key for key in key_types(schema) if key.rpartition(".")[0] == section}


def _alike(key: str, schema: type) -> str | None:
    """The key of the same section, or the section, that `key` looks like."""
    section, _, name = key.rpartition(".")
    siblings = _siblings(section, schema)
    guess = nearest(name, [*siblings, *([] if section else sections(schema))])
    return None if guess is None else siblings.get(guess, guess)


def _elsewhere(name: str, schema: type) -> list[str]:
    """Keys of any section that look like `name`, or say what it says in other trainers."""
    named: dict[str, list[str]] = {theirs: [ours] for theirs, ours in FOREIGN.items()}
    for key in key_types(schema):
        named.setdefault(key.rpartition(".")[2], []).append(key)
    return next((named[one] for one in get_close_matches(name, named, n=1, cutoff=ALIKE)), [])


def _with_its_variants(key: str, schema: type) -> str:
    """`key`, and what has to be chosen so that there is such a key."""
    section, _, name = key.rpartition(".")
    hint = get_type_hints(schema).get(section)
    if key in key_types(schema) or not (isinstance(hint, type) and issubclass(hint, Variants)):
        return key
    users = list(hint.users_of(name))
    more = f" and {len(users) - SHOWN} more" if len(users) > SHOWN else ""
    return f"{key} (a key of {section}.{hint.chosen_by}={', '.join(users[:SHOWN])}{more})"
