"""Public names of a package that are imported when first used (PEP 562), so that importing the package stays instant.

The names stand in the package's `__init__.pyi`, which editors and type checkers read instead of `__init__.py`.
"""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def lazy_exports(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` for the `__init__.py` of `package` at `file`, from the stub beside it.

    The stub consists of a docstring and lines `from module import Name as Name`.
    """
    body = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8")).body
    module_of = {alias.name: line.module for line in body if isinstance(line, ast.ImportFrom) for alias in line.names}
    names = sorted(module_of)

    def __getattr__(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_large(module_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return __getattr__, __dir__, names


@contextmanager
def uncollected() -> Iterator[None]:
    """Context in which no garbage is looked for: where a million objects are made that all stay, it is a fifth of the
    time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def import_large(name: str) -> ModuleType:
    """The module `name`, imported without looking for garbage meanwhile, as those are that import torch."""
    if name in sys.modules:
        return import_module(name)
    with uncollected():
        return import_module(name)


def import_object(path: str) -> Any:
    """The object that `path`, "package.module:name", names."""
    module, _, name = path.partition(":")
    return getattr(import_large(module), name)
