"""Reads a YAML file into a schema of frozen dataclasses, and refuses what does not fit in one line.

Nothing here knows the schema: `seppo_core.config.schema` has it. Neither torch nor diffusers is imported, and no
file but the YAML itself is touched.
"""

import dataclasses
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

Schema = TypeVar("Schema")

Values = dict[str, Any]
"""One section's values by key; a nested section is again a dict, a value that nobody gave is `MISSING`."""


def load_config(path: str | Path, schema: type[Schema]) -> Schema:
    """The checked config in the YAML file at `path`; keys that it leaves out have the schema's defaults.

    Raises FileNotFoundError where there is no such file, ValueError where it does not fit; both in one line that names
    file, key and the nearest valid name.
    """
    values = read_values(path, schema)
    refuse_missing(path, missing_keys(values))
    try:
        return build(schema, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_values(path: str | Path, schema: type) -> Values:
    """Every key of `schema` with the value it has in the file at `path`, of the right type but not yet checked."""
    return merged_values(schema, _read_yaml(Path(path)), str(path))


def merged_values(schema: type, given: Values, source: str) -> Values:
    """`given` merged over the defaults of `schema`; `source` is how errors call the place that the values come from."""
    nested, types = sections(schema), key_types(schema)
    tree = OmegaConf.merge(OmegaConf.structured(schema), {section: {} for section in nested})
    values = {}
    for key, value in _flatten(given, nested):
        if key in nested:
            raise ValueError(f"{source}: {key}={shown(value)} should be {describe(get_type_hints(schema)[key])}")
        if key not in types:
            raise ValueError(f"{source}: {key} is not a key; {_did_you_mean(key, types, schema)}")
        if "${" in str(value):
            raise ValueError(
                f"{source}: {key}={value!r} refers to another key, which is not supported; repeat the value"
            )
        values[key] = _word(value, types[key])
    try:
        tree = OmegaConf.merge(tree, _nest(values))
    except (OmegaConfBaseException, TypeError):
        # one merge a key is slow, but it finds the key to name
        for key, value in values.items():
            try:
                OmegaConf.merge(tree, _nest({key: value}))
            except (OmegaConfBaseException, TypeError) as error:
                raise ValueError(f"{source}: {key}={shown(value)} should be {describe(types[key], value)}") from error
        raise
    return OmegaConf.to_container(tree)


def build(schema: type[Schema], values: Values) -> Schema:
    """`values` as an instance of `schema`; ValueError where the `__post_init__` of a section does not accept them."""
    types = get_type_hints(schema)
    return schema(**{key: build(types[key], v) if isinstance(v, dict) else v for key, v in values.items()})


def missing_keys(values: Values) -> list[str]:
    """Dotted keys that have no default and that nobody gave."""
    return [key for key, value in _leaves(values) if isinstance(value, str) and value == MISSING]


def refuse_missing(source: str | Path, keys: list[str]) -> None:
    """ValueError that names every one of `keys`, if there are any."""
    if keys:
        options = " ".join(f"--{key} ..." for key in keys)
        verb = "is" if len(keys) == 1 else "are"
        raise ValueError(f"{source}: {', '.join(keys)} {verb} missing; add to the file or pass {options}")


def resolved_yaml(config: Any) -> str:
    """Every key of `config` with its value, as YAML that `load_config` reads back to an equal config."""
    return OmegaConf.to_yaml(OmegaConf.create(plain(config)))


def plain(config: Any) -> Values:
    """`config` as nested dicts of plain values, tuples as lists, as YAML and JSON have them."""
    return {
        field.name: plain(value)
        if dataclasses.is_dataclass(value)
        else list(value)
        if isinstance(value, tuple)
        else value
        for field in dataclasses.fields(config)
        for value in [vars(config)[field.name]]
    }


def config_differences(before: Any, after: Any, ignore: tuple[str, ...] = ()) -> list[str]:
    """One line per key whose value differs, e.g. "loop.updates: 30 -> 20"; `ignore` names keys or whole sections."""
    old, new = dict(_leaves(plain(before))), dict(_leaves(plain(after)))
    keys = [key for key in new | old if key not in ignore and key.partition(".")[0] not in ignore]
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys if old.get(key) != new.get(key)]


def key_types(schema: type) -> dict[str, Any]:
    """The type of every dotted key of `schema`, in order; sections are not keys."""
    types = {}
    hints = get_type_hints(schema)
    for name in (field.name for field in dataclasses.fields(schema)):
        if dataclasses.is_dataclass(hints[name]):
            types |= {f"{name}.{key}": inner for key, inner in key_types(hints[name]).items()}
        else:
            types[name] = hints[name]
    return types


def sections(schema: type) -> list[str]:
    """Names of the nested sections of `schema`."""
    hints = get_type_hints(schema)
    return [field.name for field in dataclasses.fields(schema) if dataclasses.is_dataclass(hints[field.name])]


def nearest(name: str, valid: list[str]) -> str | None:
    """The one of `valid` that `name` most likely stands for, if any comes near."""
    return next(iter(get_close_matches(name, valid, n=1, cutoff=0.6)), None)


def similar_path(path: Path) -> str:
    """ "; did you mean …?" where the first part of `path` that is missing resembles what lies there; else nothing."""
    for parent in path.parents:
        if parent.is_dir():
            missing = path.relative_to(parent).parts[0]
            guess = nearest(missing, sorted(entry.name for entry in parent.iterdir()))
            return f"; did you mean {parent / guess}?" if guess else ""
    return ""


def shown(value: Any) -> str:
    """`value` as YAML would write it, on one line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def describe(hint: Any, value: Any = None) -> str:
    """What a value of type `hint` is, for people; a choice also says which of its words `value` is nearest to."""
    if get_origin(hint) is Literal:
        words = [str(word) for word in get_args(hint)]
        guess = nearest(str(value), words)
        return f"one of {', '.join(words)}" + (f"; did you mean {guess}?" if guess else "")
    if get_origin(hint) in (Union, UnionType):
        # a choice last: it may end in a question
        parts = sorted(get_args(hint), key=lambda part: get_origin(part) is Literal)
        return " or ".join("null" if part is NoneType else describe(part, value) for part in parts)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        plural = {str: "texts", int: "whole numbers", float: "numbers"}[inner[0]]
        return f"a list of {plural}" if inner[1] is Ellipsis else f"a list of {len(inner)} {plural}"
    if dataclasses.is_dataclass(hint):
        return f"a section with the keys {', '.join(f.name for f in dataclasses.fields(hint))}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]


def _read_yaml(path: Path) -> Values:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a YAML file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist{_similar_file(path)}")
    try:
        # OmegaConf's loader reads 1e-5 as a number, which YAML 1.1 takes for a text, and refuses duplicate keys
        values = OmegaConf.to_container(OmegaConf.load(path))
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"{path}, line {error.problem_mark.line + 1}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError, OmegaConfBaseException) as error:
        raise ValueError(f"{path} is not a YAML file of keys and values: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a YAML file of keys and values: it holds a {type(values).__name__}")
    return values


def _similar_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; neither does the folder {path.parent}"
    guess = nearest(path.name, sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")))
    return f"; did you mean {path.parent / guess}?" if guess else ""


def _flatten(given: Values, nested: list[str]) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; an empty section ("loop:" with every line under it commented out) has none."""
    for name, value in given.items():
        if name not in nested:
            yield str(name), value
        elif isinstance(value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        elif value is not None:
            yield name, value


def _nest(values: Values) -> Values:
    """Dotted keys as dicts in dicts."""
    nested: Values = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return nested


def _word(value: Any, hint: Any) -> Any:
    """YAML reads the words no and off as false; where only a word fits, they are meant as words."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    words = [word for part in choices if get_origin(part) is Literal for word in get_args(part)]
    return next((word for word in words if word in ("no", "off")), value) if value is False else value


def _leaves(values: Values, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _did_you_mean(key: str, types: dict[str, Any], schema: type) -> str:
    section, _, name = key.rpartition(".")
    siblings = [valid for valid in types if valid.rpartition(".")[0] == section]
    # most often a slip of the fingers, else the right key in the wrong section
    leaves = {valid.rpartition(".")[2]: valid for valid in siblings}
    guess = nearest(name, [*leaves, *([] if section else sections(schema))])
    guess = leaves.get(guess, guess)
    guesses = [guess] if guess else [valid for valid in types if valid.rpartition(".")[2] == name]
    if guesses:
        return f"did you mean {' or '.join(guesses)}?"
    names = [valid.rpartition(".")[2] for valid in siblings] + ([] if section else sections(schema))
    return f"{section or 'the file'} has {', '.join(names)}"
