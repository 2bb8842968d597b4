"""The contract runs on every family in `make test`; `make check` has the minutes for two of them."""

import pytest

QUICK = ("stable-diffusion", "animatediff")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/contract/" not in item.path.as_posix() or not isinstance(item, pytest.Function):
            continue
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        families = [str(value.name) for value in values if type(value).__name__ == "Family"]
        if item.path.name == "test_mutations.py" or any(name not in QUICK for name in families):
            item.add_marker(pytest.mark.slow)
