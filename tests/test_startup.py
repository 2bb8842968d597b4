"""The table of `tools.startup`: whose seconds are whose. A whole start is too long for a quick test."""

import sys
from importlib import import_module

import pytest

from tools import startup


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """The processor's clock, which stands still unless it is moved."""
    clock = [0.0]
    monkeypatch.setattr(startup.time, "process_time", lambda: clock[0])
    return clock


def test_an_import_counts_for_its_own_package_and_not_for_the_part_around_it(tmp_path, monkeypatch, now):
    package = tmp_path / "slow_one"
    package.mkdir()
    (package / "__init__.py").write_text("import slow_clock, slow_two, slow_one.own\nslow_clock.now[0] += 3\n")
    (package / "own.py").write_text("import slow_clock; slow_clock.now[0] += 0.5\n")
    (tmp_path / "slow_two.py").write_text("import slow_clock; slow_clock.now[0] += 1\n")
    monkeypatch.setitem(sys.modules, "slow_clock", type(sys)("slow_clock"))
    sys.modules["slow_clock"].now = now
    monkeypatch.syspath_prepend(str(tmp_path))
    clock = startup.Clock()

    class Run:
        def load(self):
            now[0] += 2
            import_module("slow_one")

    clock.wrap(Run, "load", "loading")
    try:
        with clock.importing(), clock.part(clock.parts, "the rest"):
            Run().load()
            now[0] += 0.25
    finally:
        for name in ("slow_one", "slow_one.own", "slow_two"):
            sys.modules.pop(name, None)
    assert {name: taken for name, taken in clock.imports.items() if taken} == {"slow_one": 3.5, "slow_two": 1}
    assert clock.parts == {"loading": 2, "the rest": 0.25}
    lines = clock.table()
    assert lines[2:4] == ["| imports: slow_one | 3.50 |", "| imports: slow_two | 1.00 |"]
    assert "| imports in all | 4.50 |" in lines and lines[-1].endswith("after imports | 2.25 |")


def test_a_part_that_fails_is_counted_too(now):
    clock = startup.Clock()
    with pytest.raises(startup.FirstUpdate), clock.part(clock.parts, "update"):
        now[0] += 1
        raise startup.FirstUpdate
    assert clock.parts["update"] == 1
