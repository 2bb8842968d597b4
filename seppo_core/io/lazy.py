"""Package attributes that are imported when first used (PEP 562), so that importing a package stays instant."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_exports(package: str, names: dict[str, list[str]]) -> tuple[Callable[[str], Any], list[str]]:
    """`__getattr__` and `__all__` for the `__init__` of `package`; `names` lists what each of its modules hands on."""
    module_of = {name: module for module, exported in names.items() for name in exported}

    def __getattr__(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module_of[name]}"), name)

    return __getattr__, sorted(module_of)


def import_object(path: str) -> Any:
    """What `path`, "package.module:name", names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
