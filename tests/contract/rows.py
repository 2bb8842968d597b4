"""Every family's rows, found in `tests/contract/families`: one file a family, which lists its variants as `ROWS`."""

from importlib import import_module
from pkgutil import iter_modules

from tests.contract import families
from tests.contract.family import Family

FAMILIES: list[Family] = sorted(
    (
        row
        for found in iter_modules(families.__path__)
        for row in import_module(f"{families.__name__}.{found.name}").ROWS
    ),
    # images first; the order of one family's variants is the file's
    key=lambda row: row.is_video,
)
