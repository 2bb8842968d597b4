"""Reads a YAML file into a schema of frozen dataclasses, or says in one line what does not fit.

This module does not know the schema, which is in `seppo_core.config.schema`. It imports neither torch nor diffusers,
and reads no file but the YAML itself.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seppo_core.config.keys import current_names, key_types, sections
from seppo_core.config.messages import describe, nearest, shown
from seppo_core.config.suggest import wrong_key
from seppo_core.config.variants import Variants, choose

Schema = TypeVar("Schema")

_REFERENCE, _HELD = "${", "$\ue000{"
"""How OmegaConf begins a reference to another key, and what it is given in place of that: captions may hold it."""

Values = dict[str, Any]
"""The values of one section by key. A nested section is a dict again; a value that nobody gave is `MISSING`."""


class Words(tuple[str, ...]):
    """The words after an option of the command line. What they mean depends on the type of the key."""


def load_config(
    path: str | Path, schema: type[Schema], overrides: Mapping[str, Any] | None = None, *, warn: bool = True
) -> Schema:
    """The checked config in the YAML file at `path`; keys that it leaves out have the schema's defaults.

    `overrides` holds values by dotted key, e.g. {"method.beta": 10}, or by section; they replace those of the
    file. Old names of keys are accepted, with a FutureWarning if `warn` is set.

    Raises FileNotFoundError if there is no such file and ValueError if it does not fit, both in one line that names
    file, key and the nearest valid name.
    """
    return read_draft(path, schema, overrides or {}, warn=warn).build()


@dataclass(frozen=True)
class Draft(Generic[Schema]):
    """Values of the right types that have not been checked against each other yet."""

    schema: type[Schema]
    chosen: type[Schema]
    """`schema` with the alternatives that the values name, e.g. the options of one method."""
    values: Values
    source: str
    """Start of an error message: the file that the values come from, or nothing."""

    def build(self) -> Schema:
        """The config; ValueError if keys are missing, or if a section's `__post_init__` refuses a value."""
        if missing := [key for key, value in _leaves(self.values) if isinstance(value, str) and value == MISSING]:
            options = " ".join(f"--{key} ..." for key in missing)
            verb = "is" if len(missing) == 1 else "are"
            raise ValueError(f"{self.source}{', '.join(missing)} {verb} missing; add to the file or pass {options}")
        try:
            return _build(self.schema, get_type_hints(self.chosen), self.values)
        except ValueError as error:
            raise ValueError(f"{self.source}{error}") from error


def read_draft(
    path: str | Path | None, schema: type[Schema], overrides: Mapping[str, Any], *, warn: bool = True
) -> Draft[Schema]:
    """`schema` with the values of the YAML file at `path` (None: none) and of `overrides`, whose types are checked."""
    source = "" if path is None else f"{path}: "
    given = {} if path is None else dict(_flatten(_read_yaml(Path(path)), sections(schema)))
    given = current_names(given, source, warn)
    overrides = current_names(dict(_flatten(overrides, sections(schema))), "", warn)
    try:
        chosen = choose(schema, given | {key: _read_value(value, str) for key, value in overrides.items()})
        given = _without_other_alternatives(given, overrides, chosen)
        tree = OmegaConf.merge(OmegaConf.structured(chosen), {section: {} for section in sections(chosen)})
        tree = _merge(tree, given, chosen)
    except ValueError as error:
        raise ValueError(f"{source}{error}") from error
    return Draft(schema, chosen, _released(OmegaConf.to_container(_merge(tree, overrides, chosen))), source)


def read_values(path: Path) -> Values:
    """What the YAML file at `path` holds, by the names that keys have now, without a schema: nothing is checked."""
    values = _read_yaml(path)
    nested = [key for key, value in values.items() if isinstance(value, dict)]
    return _nest(current_names(dict(_flatten(values, nested)), f"{path}: ", warn=False))


def resolved_yaml(config: Any) -> str:
    """Every key of `config` with its value, as YAML that `load_config` reads back to an equal config."""
    return _released(OmegaConf.to_yaml(OmegaConf.create(_held(plain(config)))))


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
    """One line per key whose value differs, e.g. "loop.iterations: 7 -> 5"; `ignore` names keys or whole sections."""
    old, new = dict(_leaves(plain(before))), dict(_leaves(plain(after)))
    keys = [key for key in new | old if key not in ignore and key.partition(".")[0] not in ignore]
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys if old.get(key) != new.get(key)]


def _build(schema: type[Schema], hints: Values, values: Values) -> Schema:
    nested, problems = {}, []
    for key, value in values.items():
        if isinstance(value, dict):
            try:
                nested[key] = _build(hints[key], get_type_hints(hints[key]), value)
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return schema(**values | nested)


def _merge(tree: DictConfig, given: Mapping[str, Any], schema: type) -> DictConfig:
    """`tree` with the dotted keys of `given`; ValueError that names every key and value that does not fit."""
    types, hints = key_types(schema), get_type_hints(schema)
    values, problems = {}, []
    for key, value in given.items():
        try:
            if key in hints and key not in types:
                raise ValueError(f"{key}={shown(value)} should be {describe(hints[key])}")
            value = _read_value(value, types.get(key, str))
            if _takes_default(key, value, types, hints):
                continue
            if key not in types:
                raise ValueError(wrong_key(key, given[key], schema))
            # of captions it is a part like any other
            if _REFERENCE in str(value) and key.rpartition(".")[2] != "prompts":
                raise ValueError(f"{key}={value!r} refers to another key, which is not supported; repeat the value")
            if "\0" in str(value):
                raise ValueError(f"{key}={shown(value)} holds a NUL character, which no name of a file can have")
        except ValueError as error:
            problems.append(str(error))
        else:
            values[key] = _held(value)
    if values:
        try:
            tree = OmegaConf.merge(tree, _nest(values))
        except (OmegaConfBaseException, TypeError) as whole:
            # a merge for each key is slow, but it finds the keys to name
            wrong = [
                f"{key}={shown(_released(value))} should be {describe(types[key], value)}"
                for key, value in values.items()
                if not _fits(tree, key, value)
            ]
            if not wrong:
                raise whole from None
            problems += wrong
    if problems:
        raise ValueError("; ".join(problems))
    return tree


def _held(values: Any) -> Any:
    """`values`, in lists and dicts, with texts that OmegaConf takes for no references; `_released` makes them again."""
    return _replaced(values, _REFERENCE, _HELD)


def _released(values: Any) -> Any:
    return _replaced(values, _HELD, _REFERENCE)


def _replaced(values: Any, old: str, new: str) -> Any:
    if isinstance(values, str):
        return values.replace(old, new)
    if isinstance(values, dict):
        return {_replaced(key, old, new): _replaced(value, old, new) for key, value in values.items()}
    # tuples stay tuples
    is_row = isinstance(values, list | tuple)
    return type(values)(_replaced(value, old, new) for value in values) if is_row else values


def _fits(tree: DictConfig, key: str, value: Any) -> bool:
    try:
        OmegaConf.merge(tree, _nest({key: value}))
    except (OmegaConfBaseException, TypeError):
        return False
    return True


def _read_value(value: Any, hint: Any) -> Any:
    """`value` as OmegaConf is to see it: YAML reads the words no and off as false, and options are not typed at all."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if isinstance(value, Words):
        if any(get_origin(part) is tuple for part in parts):
            return list(value)
        # a switch may stand alone
        value = " ".join(value) if value or hint is not bool else True
        return None if value == "null" and NoneType in parts else value
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    return next((word for word in words if word in ("no", "off")), value) if value is False else value


def _takes_default(key: str, value: Any, types: Values, hints: Values) -> bool:
    """Whether `key`, of a section with alternatives, only repeats a default, as the files of older runs do.

    ValueError if it is a key of another alternative and says something else.
    """
    section, _, name = key.rpartition(".")
    if section not in hints or not issubclass(hints[section], Variants):
        return False
    if key in types:
        return value is None and NoneType not in get_args(types[key])
    users = hints[section].users_of(name)
    defaults = [None, *(list(default) if isinstance(default, tuple) else default for default in users.values())]
    if users and value not in defaults:
        chosen_by = f"{section}.{hints[section].chosen_by}={hints[section].chosen()}"
        raise ValueError(f"{key}={shown(value)} has no meaning for {chosen_by}; leave it out")
    return bool(users)


def _without_other_alternatives(given: Values, overrides: Values, schema: type) -> Values:
    """`given` without the keys of an alternative that `overrides` exchanges for another, which lacks them: a file that
    says `flipper` can be run with `--method.name dpo`."""
    types, hints = key_types(schema), get_type_hints(schema)
    exchanged = {}
    for section, hint in hints.items():
        if isinstance(hint, type) and issubclass(hint, Variants):
            key = f"{section}.{hint.chosen_by}"
            if hint.chosen() != given.get(key, hint.section_type().chosen()) and key in overrides:
                exchanged[section] = hint

    def is_left(key: str) -> bool:
        section, _, name = key.rpartition(".")
        return key in types or section not in exchanged or not exchanged[section].users_of(name)

    return {key: value for key, value in given.items() if is_left(key)}


def _read_yaml(path: Path) -> Values:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a YAML file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist{_similar_file(path)}")
    try:
        # OmegaConf's loader reads 1e-5 as a number, which YAML 1.1 takes for a text, and refuses duplicate keys
        values = _released(OmegaConf.to_container(OmegaConf.load(StringIO(_held(path.read_text(encoding="utf-8"))))))
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


def _leaves(values: Values, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
