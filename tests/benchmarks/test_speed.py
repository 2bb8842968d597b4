"""The speed benchmark: order, statistic, what is left out and why, and a small run of it. No speed is asserted."""

import json
import subprocess
import sys
from math import comb
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import binom
from torch import nn

from benchmarks.__main__ import COMMANDS
from benchmarks.experiments.speed import main as speed
from benchmarks.experiments.speed.bench import Comparison, Left, Prepared, Unavailable
from benchmarks.experiments.speed.main import NAMES
from benchmarks.experiments.speed.measuring import (
    Timer,
    Times,
    Variant,
    interleaved,
    measure_memory,
    megabytes,
    ratio,
    spread,
)
from benchmarks.experiments.speed.report import measured
from benchmarks.experiments.speed.runner import Progress, Runner

CPU = torch.device("cpu")


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def variant(self, name: str, *seconds: float, units: int = 1) -> Variant:
        """One whose calls take `seconds` in turn, the last of them from then on."""
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return Variant(name, run, units=units)


def quiet(total: int = 1) -> Progress:
    return Progress(total, stream=SimpleNamespace(isatty=lambda: False, write=lambda _: None, flush=lambda: None))


def run(prepare, rounds: int = 3, warmup: int = 1, timer: Timer | None = None):
    """What a runner keeps of one comparison that `prepare` makes."""
    kept = []
    runner = Runner(rounds, warmup, timer or Timer(), quiet(), kept.append)
    stage = SimpleNamespace(subject=SimpleNamespace(title="nothing"), device=CPU, clear=lambda: None)
    try:
        runner.run(Comparison("some", "Some", "Why?", prepare), stage, "nothing")
    except KeyboardInterrupt:
        return kept, True
    return kept[0]


def test_variants_come_in_turn():
    times = [Times(Variant(name, lambda: None)) for name in "ABC"]
    assert "".join(one.variant.name for _, one in interleaved(times, 3)) == "ABCABCABC"
    seen = []
    for number, one in interleaved(times, 3):
        seen.append((number, one.variant.name))
        if (number, one.variant.name) == (1, "A"):
            times.pop(1)
    assert seen == [(0, "A"), (0, "B"), (0, "C"), (1, "A"), (1, "C"), (2, "A"), (2, "C")]


def test_the_clock_is_read_when_the_device_is_done_and_setting_up_is_not_timed():
    calls = []
    timer = Timer(lambda: calls.append("clock") or float(len(calls)), lambda: calls.append("wait"))
    timer(Variant("one", lambda: calls.append("run"), lambda: calls.append("before")))
    assert calls == ["before", "wait", "clock", "run", "wait", "clock"]


@pytest.mark.parametrize("count", [1, 2, 5, 6, 9, 12, 20, 45])
def test_the_median_s_interval_is_the_binomial_s(count):
    """Between the k-th smallest and the k-th largest, k as large as 95 % allow."""
    found = spread([float(value) for value in range(count, 0, -1)])
    place = max([1, *(k for k in range(1, count // 2 + 1) if 1 - 2 * binom.cdf(k - 1, count, 0.5) >= 0.95)])
    assert found.median == ((count + 1) / 2, place, count + 1 - place)
    assert found.confidence == pytest.approx(1 - 2 * binom.cdf(place - 1, count, 0.5))
    assert (found.confidence >= 0.95) == (count >= 6)
    if count == 9:
        assert found.confidence == 1 - 2 * (1 + comb(9, 1)) / 2**9 and found.quartiles == (3, 7)


def test_the_interval_holds_the_median_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(2000, 9, generator=generator).exp()
    found = [spread(sample.tolist()) for sample in samples]
    held = sum(one.median.low <= torch.e**0.5 <= one.median.high for one in found) / len(found)
    assert held == pytest.approx(found[0].confidence, abs=0.012)


def test_a_planted_slow_variant_is_found_whatever_the_machine_does():
    """Three times as long; the machine slows down to a fifth, and something breaks into one round."""
    clock = Clock()
    pace = [1.0, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 5.0]
    slow = [3 * p for p in pace]
    slow[4] *= 7
    variants = [clock.variant("usual", *pace, 0.0), clock.variant("slow", *slow, 0.0)]
    result = run(lambda stage: Prepared(variants), rounds=7, warmup=1, timer=Timer(clock))
    usual, found = result.variants
    assert (usual.ratio.value, found.ratio.value) == (1, 3) and found.ratio.differs
    assert found.ratio.quartiles == (3, 3)
    assert found.first == 3000 and len(found.rounds) == 7
    assert usual.milliseconds.value == 3000 and result.rounds == 7 and not result.is_partial


def test_times_are_those_of_a_unit():
    clock = Clock()
    result = run(
        lambda _: Prepared([clock.variant("one", 2.0), clock.variant("four", 2.0, units=4)]), timer=Timer(clock)
    )
    assert [one.milliseconds.value for one in result.variants] == [2000, 500]
    assert result.variants[1].ratio.value == 0.25


def test_ratios_are_formed_within_rounds_that_both_have():
    assert ratio([2.0, 4.0], [1.0, 2.0, 9.0]).median == (2, 2, 2)
    assert not ratio([1.0, 3.0], [2.0, 2.0]).differs
    with pytest.raises(ValueError, match="at least one"):
        ratio([], [1.0])
    assert measured([Times(Variant("never", lambda: None))], {}) == ()


def test_what_fails_is_left_out_with_the_reason_and_the_others_go_on():
    def broken():
        raise RuntimeError("the kernel fell over\nand a long trace")

    def unable():
        raise Unavailable("it needs a GPU")

    def large():
        raise torch.OutOfMemoryError("tried to allocate 3 EiB")

    variants = [Variant("a", lambda: None), Variant("b", broken), Variant("c", unable), Variant("d", large)]
    closed = []
    result = run(lambda _: Prepared(variants, [Left("e", "not here")], close=lambda: closed.append(1)))
    assert [one.name for one in result.variants] == ["a"] and closed
    assert [(one.name, one.failed) for one in result.left] == [("e", False), ("b", True), ("c", False), ("d", False)]
    reasons = [one.reason for one in result.left]
    assert (
        reasons[:3] == ["not here", "RuntimeError: the kernel fell over", "it needs a GPU"] and "--batch" in reasons[3]
    )
    assert result.failed

    result = run(lambda _: Prepared([Variant("base", broken), Variant("other", lambda: None)]))
    assert result.variants == () and [one.name for one in result.left] == ["base", "other"]

    def nothing(stage):
        raise Unavailable("there is nothing to move")

    result = run(nothing)
    assert (result.variants, result.left) == ((), (Left("some", "there is nothing to move"),)) and not result.failed


def test_ctrl_c_leaves_the_rounds_that_are_whole():
    clock, calls = Clock(), []

    def stops():
        calls.append(1)
        clock.now += 2
        if len(calls) == 4:
            raise KeyboardInterrupt

    kept, stopped = run(
        lambda _: Prepared([clock.variant("a", 1.0), Variant("b", stops)]), rounds=9, timer=Timer(clock)
    )
    assert stopped and kept[0].is_partial and kept[0].rounds == 2
    assert kept[0].variants[1].ratio.value == 2 and len(kept[0].variants[0].rounds) == 3
    assert "partial" in json.dumps(kept[0].to_json())


def test_memory_is_what_a_call_makes_beside_what_is_held():
    """Two layers: what is alive at once at most is the hidden tensor's gradient and those of both weights."""
    first, second = nn.Linear(100, 200, bias=False), nn.Linear(200, 1, bias=False)
    x = torch.randn(50, 100)
    held = [x, first.weight, second.weight]

    def step() -> None:
        second(first(x)).sum().backward()
        first.weight.grad = second.weight.grad = None

    found = measure_memory(Variant("step", step, held=lambda: held), CPU)
    assert found.held == 4 * (50 * 100 + 100 * 200 + 200)
    hidden, weights = 4 * 50 * 200, 4 * (100 * 200 + 200)
    # the hidden tensor itself is gone by then; the sum and its gradient are a number each
    assert found.made == hidden + weights + 2 * 4
    assert found.allocated is None and found.peak == found.held + found.made
    assert measure_memory(Variant("step", step), CPU) is None
    assert (megabytes(2_500_000), megabytes(3.1e9)) == ("2.5 MB", "3.10 GB")


def test_time_left_comes_of_what_was_done():
    clock, lines = Clock(), []
    stream = SimpleNamespace(isatty=lambda: False, write=lines.append, flush=lambda: None)
    progress = Progress(3, stream, clock)
    assert progress.left(None) is None
    progress.begin("first")
    clock.now = 30
    assert progress.left(0.5) == 30 + 2 * 60
    progress.call(1, 2, "A")
    assert "1/3 first: A, 2/2, about 2:30 left" in "".join(lines)
    clock.now = 60
    progress.end(SimpleNamespace(variants=[SimpleNamespace(name="A")], left=[]))
    progress.begin("second")
    progress.end(SimpleNamespace(variants=[], left=[Left("second", "no GPU")]))
    assert "second: skipped second (no GPU)" in "".join(lines)
    progress.begin("third")
    assert progress.left(None) == 60


MISTAKES = {
    "--only flavour": "invalid choice: 'flavour'",
    "--rounds 0": "0 must be at least 1",
    "--rounds few": "'few' is not a whole number",
    "--height 64": "--height goes with --base",
    "--dtype fp16 --device cpu": "--dtype fp16 needs CUDA",
    "--base no-such-model": "nothing is known of --base no-such-model",
    "--base FLUX.1-dev --frames 16": "draws images and takes no motion modules",
    "--base Wan2.1-T2V-1.3B-Diffusers --motion x": "--motion x is for AnimateDiff",
    "--base stable-diffusion-v1-5 --height 100": "104",
    "--base Wan2.1-T2V-1.3B-Diffusers --frames 16": "frames",
    "--base hunyuanvideo --tune full --height 64": "try --tune lora",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_told_in_one_line(line, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.experiments.speed.bench.free_memory", lambda device: 16 * 1024**3)
    try:
        status = speed.main(
            [*line.split(), *(["--device", "cpu"] if "--device" not in line else []), "--out", str(tmp_path)]
        )
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert MISTAKES[line] in told[-1], told[-1]
    assert not (tmp_path / "report.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_cuda_is_not_made_up(capsys, tmp_path):
    assert speed.main(["--device", "cuda", "--out", str(tmp_path)]) == 2
    assert "torch sees no CUDA device" in capsys.readouterr().err


def test_help_names_all_comparisons_and_loads_no_torch():
    code = (
        "import sys; from benchmarks.experiments.speed.main import _parser; print(_parser().format_help()); "
        "assert 'torch' not in sys.modules"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"\n  {name} " in told for name in NAMES)
    assert COMMANDS["speed"][0] == "benchmarks.experiments.speed.main"
