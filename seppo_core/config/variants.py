"""Config sections whose keys depend on the value of one of them: `method.name` decides what else `method` holds.

Every alternative is a frozen dataclass that derives from the section and gives the deciding key a default of its own.
It stands in a module of the section's `package`, where it is found by itself; no list names it:

    # seppo_core/config/methods/ipo.py
    @dataclass(frozen=True, kw_only=True)
    class IpoConfig(MethodConfig):
        \"\"\"One line that `--help` prints beside the name.\"\"\"

        name: str = "ipo"
        tau: float = 0.1
        \"\"\"Text that `--help` prints beside the key.\"\"\"

A new section of this kind derives from `Variants` and sets `chosen_by` and `package`. Reading a config
(`seppo_core.config.loader`) then builds the alternative that the file or the command line names; a key of another
alternative is refused unless it holds null or its default, which older files list in full.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Literal, Self, get_type_hints

from seppo_core.config.keys import key_types
from seppo_core.config.messages import describe, shown


@dataclass(frozen=True, kw_only=True)
class Variants:
    """Base of such a section."""

    chosen_by: ClassVar[str]
    """The key that decides."""
    package: ClassVar[str]
    """Package with one module for each alternative (or for several that are close)."""

    @classmethod
    def variants(cls) -> dict[str, type[Self]]:
        """The alternatives by name, in the order of their modules."""
        return _find(cls.section_type())

    @classmethod
    def users_of(cls, key: str) -> dict[str, Any]:
        """The alternatives that have `key`, with its default in each."""
        found = {name: _defaults(variant) for name, variant in cls.variants().items()}
        return {name: defaults[key] for name, defaults in found.items() if key in defaults}

    @classmethod
    def inferred(cls, given: Mapping[str, Any]) -> str | None:
        """The alternative that other keys of the section imply where the deciding one is not given; None if unclear."""
        return None

    @classmethod
    def section_type(cls) -> "type[Variants]":
        """The section that this is an alternative of."""
        return next(one for one in reversed(cls.__mro__) if "package" in vars(one))

    @classmethod
    def chosen(cls) -> str:
        """Name of this alternative."""
        return _defaults(cls)[cls.chosen_by]


def choose(schema: type, given: Mapping[str, Any]) -> type:
    """`schema` with every section of alternatives replaced by the alternative that the dotted keys of `given` name."""
    chosen = {}
    for section, hint in get_type_hints(schema).items():
        if isinstance(hint, type) and issubclass(hint, Variants):
            key = f"{section}.{hint.chosen_by}"
            variants = hint.variants()
            own = {
                name.removeprefix(f"{section}."): value
                for name, value in given.items()
                if name.startswith(f"{section}.")
            }
            name = given[key] if key in given else hint.inferred(own) or hint.chosen()
            if name not in variants:
                raise ValueError(f"{key}={shown(name)} should be {describe(Literal[*variants], name)}")
            chosen[section] = variants[name]
    return _with_sections(schema, tuple(chosen.items()))


@cache
def _with_sections(schema: type, chosen: tuple[tuple[str, type], ...]) -> type:
    required = {one.name for one in fields(schema) if one.default_factory is MISSING}
    changed = [
        (section, variant, field() if section in required else field(default_factory=variant))
        for section, variant in chosen
    ]
    return make_dataclass(schema.__name__, changed, bases=(schema,), frozen=True, kw_only=True)


@cache
def _find(section: type[Variants]) -> dict[str, type]:
    names = sorted(module.name for module in pkgutil.iter_modules(import_module(section.package).__path__))
    modules = [import_module(f"{section.package}.{name}") for name in names]
    classes = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, section) and value.__module__ == module.__name__
    ]
    return {_defaults(variant)[section.chosen_by]: variant for variant in classes}


def _defaults(section: type) -> dict[str, Any]:
    return {field.name: field.default for field in fields(section)}


def every_key(schema: type) -> list[str]:
    """The dotted keys of `schema` with those of all alternatives of its sections."""
    keys = list(key_types(schema))
    for section, hint in get_type_hints(schema).items():
        if isinstance(hint, type) and issubclass(hint, Variants):
            keys += [f"{section}.{name}" for variant in hint.variants().values() for name in _defaults(variant)]
    return list(dict.fromkeys(keys))
