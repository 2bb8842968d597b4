"""`pytest --cpu-times=FILE` writes how many seconds of processor time the tests took, child processes counted.

Wall time says little on a machine that does other work besides. The report begins with the processor's name and the
time of a small calibration loop, so that the reports of two machines compare.
"""

import os
import platform
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

SLOWEST = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu-times", metavar="FILE", help="write the processor seconds of the tests to FILE (Markdown)")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(CpuTimes(config.getoption("--cpu-times")), "cpu-times")


def processor_seconds() -> float:
    """The processor time of this process, of the children that it has waited for and of those of the fork server."""
    return time.process_time() + sum(os.times()[2:4]) + server_seconds()


def server_seconds() -> float:
    """The processor time of the server that `tests.training.together` forks processes from, while it runs."""
    module = sys.modules.get("multiprocessing.forkserver")
    pid = module and module._forkserver._forkserver_pid
    if not pid or not Path(f"/proc/{pid}/stat").is_file():
        return 0.0
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def processor_name() -> str:
    """The processor's name, with family and model, because virtual machines often hide the rest."""
    if not Path("/proc/cpuinfo").is_file():
        return platform.processor() or platform.machine()
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    name = fields.get("model name", platform.machine())
    return f"{name}, family {fields.get('cpu family', '?')}, model {fields.get('model', '?')}"


def calibrate() -> float:
    """Processor seconds of a fixed loop in plain Python: the smallest of five tries."""
    tries = []
    for _ in range(5):
        start = time.process_time()
        total = 0
        for number in range(3_000_000):
            total += number * number % 7
        tries.append(time.process_time() - start)
    return min(tries)


class CpuTimes:
    """Puts into each report the processor time that passed since the last one, and adds the times up at the end.

    The cost of a shared fixture or of an import counts for the test that needed it first.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.started, self.last = time.monotonic(), processor_seconds()
        self.seconds: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo):
        report = yield
        now = processor_seconds()
        report.cpu_seconds, self.last = now - self.last, now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += vars(report).get("cpu_seconds", 0.0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        # waits for the server, so that its time is among that of this process's children
        if module := sys.modules.get("multiprocessing.forkserver"):
            module._forkserver._stop()

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        # only now have the workers ended, whose time is part of the sum; they themselves write nothing
        if self.path and "PYTEST_XDIST_WORKER" not in os.environ:
            Path(self.path).write_text(self.report(processor_seconds()), encoding="utf-8")

    def report(self, total: float) -> str:
        clock = time.monotonic() - self.started
        files: Counter[str] = Counter()
        for test, seconds in self.seconds.items():
            files[test.partition("::")[0]] += seconds
        lines = [
            "# What the tests cost",
            "",
            "Seconds of processor time, user and system, child processes included. `make times` writes this file.",
            "",
            f"- {len(self.seconds)} tests: {total:.0f} s of processor time in all, {clock:.0f} s on the clock",
            f"- Processor: {processor_name()}; {os.cpu_count()} cores",
            f"- Calibration loop (`calibrate` in tests/cpu_times.py): {calibrate():.3f} s",
            "",
            f"| The {SLOWEST} slowest tests | s |",
            "|---|--:|",
            *(f"| `{test.replace('|', '/')}` | {seconds:.1f} |" for test, seconds in self.seconds.most_common(SLOWEST)),
            "",
            "| File | s |",
            "|---|--:|",
            *(f"| {name} | {seconds:.1f} |" for name, seconds in files.most_common()),
        ]
        return "\n".join(lines) + "\n"
