"""The order in which the toy table is worked on, and what runs it."""

import io
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.experiments.toy import processes
from benchmarks.experiments.toy.folder import Paths, read_spec
from benchmarks.experiments.toy.plan import Plan
from benchmarks.experiments.toy.processes import TaskFailed
from benchmarks.experiments.toy.queue import (
    best_setting,
    beyond,
    cells_to_do,
    failure,
    forget_failures,
    next_job,
    note_failure,
)
from benchmarks.experiments.toy.regimes import LADDER, SCALES
from benchmarks.experiments.toy.results import load_table
from benchmarks.experiments.toy.sweep import BUSY, sweep
from benchmarks.experiments.toy.text import markdown
from seppo_core.config.methods.dspo import DspoConfig
from seppo_core.io.atomic import save_json
from tests.benchmarks.toy_cells import carried_out, small_plan, write_cell

# the order of work


def test_work_goes_from_data_to_rates_to_seeds(tmp_path):
    plan, paths = small_plan(only=("sft", "dpo")), Paths(tmp_path)
    assert next_job(plan, paths, ()).name == "data"
    assert next_job(plan, paths, {"data"}) is None
    save_json(paths.data("image") / "data.json", {"scores": {}})
    assert next_job(plan, paths, ()).cell == plan.base()
    write_cell(paths, plan.base(), 0.6)

    prepare = next_job(plan, paths, ())
    assert prepare.name == "prepare-image-winners" and prepare.command[:3] == ("-m", "seppo_image", "prepare")
    # while that runs, pairs can be encoded
    pairs = next_job(plan, paths, {prepare.name})
    assert pairs.name == "prepare-image-pairs" and ("--data.supervision", "pairs") == pairs.command[-2:]
    for kind in ("winners", "pairs"):
        save_json(paths.cache("image", kind) / "manifest.json", {})

    order = []
    while (job := next_job(plan, paths, ())) is not None:
        order.append((job.cell.arm, job.cell.role, job.cell.rate, job.cell.seed))
        write_cell(paths, job.cell, 10 * job.cell.rate)
    rates = [(arm, "tune", rate, 0) for arm in ("sft", "dpo") for rate in (1e-3, 3e-3)]
    assert order == rates + [(arm, "final", 3e-3, seed) for seed in (1, 2, 3) for arm in ("sft", "dpo")]


def test_a_strong_base_is_trained_before_all_that_starts_from_it(tmp_path):
    plan, paths = small_plan(only=("seppo",), seeds=1, regimes=("strong", "strong_weak")), Paths(tmp_path)
    assert [base.base for base in plan.bases()] == ["strong"], "one for both"
    jobs = carried_out(plan, paths)
    names = [job.name if job.cell is None else f"{job.cell.regime}-{job.cell.arm}" for job in jobs]
    tuned_and_trained = ["strong-seppo"] * 3
    assert names == [
        "prepare-image-winners", "strong-image", "strong-base", *tuned_and_trained, "prepare-image-weak",
        *(name.replace("strong", "strong_weak") for name in tuned_and_trained),
    ]  # fmt: skip
    table = load_table(plan, paths)
    assert [row.arm for row in table.of("strong_weak") if row.seeds] == ["base", "seppo"]
    assert [one.second for one in table.comparisons if one.regime == "strong"] == ["base"]


def test_the_large_base_is_trained_first_and_ranks_its_own_samples(tmp_path):
    plan, paths = small_plan(only=("indicator_initial",), seeds=5, regimes=("large",)), Paths(tmp_path)
    base, names = paths.base("image", "large"), []
    for job in carried_out(plan, paths):
        names.append(job.name if job.cell is None else f"{job.cell.regime}-{job.cell.arm}")
        if "prepare" in job.command:
            assert job.command[-2:] == ("--model.base", str(base)), "its text encoder has learnt with it"
        elif job.name == "own-image":
            assert job.command[-1] == str(base)
    cells = ["large-indicator_initial"] * (names.count("large-indicator_initial"))
    assert names == ["large-image", "large-base", "own-image", "prepare-image-own_winners", *cells]
    assert len(plan.seeds_of("large")) == 3
    rows = {row.arm: row for row in load_table(plan, paths).of("large")}
    assert rows["indicator_initial"].seeds == (1, 2, 3)


def test_the_anchor_of_captions_alone_is_looked_at_on_winners_that_are_drawn_first(tmp_path):
    plan, paths = small_plan(only=("online_seppo",), regimes=("own",)), Paths(tmp_path)
    jobs = carried_out(plan, paths)
    done = list(dict.fromkeys(job.name if job.cell is None else f"{job.cell.arm}-{job.cell.role}" for job in jobs))
    tune, final = "online_seppo-tune", "online_seppo-final"
    assert done[-5:] == ["prepare-image-prompts", tune, "own-image", "prepare-image-own_winners", final]


def test_busy_cells_are_not_begun_twice_and_unknown_rates_wait(tmp_path):
    plan, paths = small_plan(only=("sft",)), Paths(tmp_path)
    save_json(paths.data("image") / "data.json", {"scores": {}})
    save_json(paths.cache("image", "winners") / "manifest.json", {})
    write_cell(paths, plan.base(), 0.6)
    first, second = plan.tuning("mixture", "sft")
    write_cell(paths, first, 0.6)
    assert next_job(plan, paths, ()).cell == second
    assert next_job(plan, paths, {second.name}) is None
    waiting = [can_begin for _, can_begin in cells_to_do(plan, paths)]
    assert waiting == [True, False, False, False]


def test_best_setting_needs_all_of_them_and_takes_the_lower_of_a_tie(tmp_path):
    plan, paths = small_plan(), Paths(tmp_path)
    low, high = plan.tuning("mixture", "sft")
    write_cell(paths, low, 0.6)
    assert best_setting(plan, paths, "mixture", "sft") is None
    write_cell(paths, high, 0.6)
    assert best_setting(plan, paths, "mixture", "sft") == low.setting
    write_cell(paths, high, 0.7)
    assert best_setting(plan, paths, "mixture", "sft") == high.setting


def test_a_best_setting_at_the_edge_is_looked_beyond_as_often_as_allowed(tmp_path):
    plan, paths = small_plan(only=("sft",)), Paths(tmp_path)
    plan.scale = replace(plan.scale, extend=2)
    write_cell(paths, plan.base(), 0.6)
    save_json(paths.data("image") / "data.json", {"scores": {}})
    save_json(paths.cache("image", "winners") / "manifest.json", {})
    tried = []
    while (job := next_job(plan, paths, ())).cell.role == "tune":
        tried.append(job.cell.rate)
        write_cell(paths, job.cell, -job.cell.rate)  # the lower the better
    assert tried == [1e-3, 3e-3, 3e-4, 1e-4] and job.cell.rate == 1e-4
    row = next(row for row in load_table(plan, paths).rows if row.arm == "sft")
    assert [setting[0] for setting, _ in row.tuning] == [1e-3, 3e-3, 3e-4, 1e-4] and row.at_edge(0)


def test_beta_is_tuned_at_the_best_rate_and_the_weight_at_the_best_of_both(tmp_path):
    plan, paths = small_plan(only=("gt_pair",), regimes=("own",)), Paths(tmp_path)
    plan.scale = replace(plan.scale, extend=1, beta=10.0, weight=10.0)
    write_cell(paths, plan.base(), 0.6)
    save_json(paths.data("image") / "data.json", {"scores": {}})
    draws = next_job(plan, paths, ())
    assert draws.name == "own-image" and draws.command[-2:] == ("4", "2")
    save_json(paths.data("image") / "own.json", {"scores": {}})
    save_json(paths.cache("image", "own_winners") / "manifest.json", {})

    def score(rate, beta, weight):
        # best at 1e-3, at the lower beta, inside the weights
        return 0.5 + (rate == 1e-3) / 10 - beta / 1e4 - abs(weight - 10) / 1e5

    tried = []
    while (job := next_job(plan, paths, ())).cell.role == "tune":
        tried.append(job.cell.setting)
        write_cell(paths, job.cell, score(*job.cell.setting))
    assert tried == [
        (1e-3, 10, 10), (3e-3, 10, 10), (3e-4, 10, 10), (1e-3, 1, 10), (1e-3, 100, 10), (1e-3, 0.1, 10),
        (3e-4, 0.1, 10), (3e-3, 0.1, 10), (1e-3, 0.01, 10), (1e-3, 0.01, 3), (1e-3, 0.01, 30),
    ]  # fmt: skip
    assert job.cell.setting == (1e-3, 0.01, 10) and job.cell.data == "own_winners"
    assert ("--method.beta", "0.01", "--method.sft_weight", "10") == job.cell.options[16:20]


def test_a_table_goes_on_elsewhere_from_the_results_that_are_kept(tmp_path):
    plan, store = small_plan(only=("sft",), seeds=1), tmp_path / "store"
    here, elsewhere = Paths(tmp_path / "here", store), Paths(tmp_path / "elsewhere", store)
    launcher = Pretend(here)
    assert sweep(plan, here, launcher, stream=io.StringIO()) and len(launcher.began) == 6
    again = Pretend(elsewhere)
    assert sweep(plan, elsewhere, again, stream=io.StringIO()) and again.began == ["data"]
    rows = [load_table(plan, paths).of("mixture") for paths in (here, elsewhere)]
    assert [row.to_json() for row in rows[0]] == [row.to_json() for row in rows[1]]


def test_dspo_s_search_begins_at_its_own_beta():
    plan = Plan("image", SCALES["image"]["own"])
    assert plan.start("dspo") == (DspoConfig().beta, None) and plan.start("dpo") == (10.0, None)
    assert "--method.beta 0.005" in " ".join(plan.tuning("own", "dspo")[0].options)


def test_no_rate_is_looked_for_beyond_one_inside_the_grid_or_the_ladders_end():
    assert beyond([3e-4, 1e-3, 3e-3], 1e-3) is None and beyond([1e-3], 1e-3) is None
    assert beyond([3e-4, 1e-3], 1e-3) == 3e-3 and beyond([3e-4, 1e-3], 3e-4) == 1e-4
    assert beyond([LADDER[0], 1e-3], LADDER[0]) is None and beyond([1e-3, LADDER[-1]], LADDER[-1]) is None


def test_a_rate_that_failed_is_not_chosen_and_can_be_tried_again(tmp_path):
    plan, paths = small_plan(only=("sft",)), Paths(tmp_path)
    low, high = plan.tuning("mixture", "sft")
    write_cell(paths, low, 0.6)
    note_failure(paths, high, "loss is not finite")
    assert best_setting(plan, paths, "mixture", "sft") == low.setting
    assert failure(paths, high) == "loss is not finite"
    note_failure(paths, low, "nor here")
    (paths.cell(low) / "cell.json").unlink()
    assert best_setting(plan, paths, "mixture", "sft") is None
    # no rate came through: nothing is left to be done
    write_cell(paths, plan.base(), 0.6)
    assert list(cells_to_do(plan, paths)) == []
    forget_failures(paths)
    assert len(list(cells_to_do(plan, paths))) == 2 + 3


# the sweep


class Done:
    """A process that has ended already."""

    def __init__(self, exitcode: int):
        self.exitcode = exitcode


class Pretend:
    """A launcher whose processes do their work at once: `fail` names jobs that end with status 1."""

    def __init__(self, paths: Paths, fail: str = "-"):
        self.paths, self.fail, self.began = paths, fail, []

    def start(self, command, log: Path) -> Done:
        self.began.append(log.stem)
        if log.stem.startswith(self.fail):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("traceback\nseppo-image: it broke\n")
            return Done(1)
        if "benchmarks.experiments.toy.data" in command:
            save_json(self.paths.data("image") / "data.json", {"scores": {}})
        elif "prepare" in command:
            save_json(Path(command[command.index("--data.cache") + 1]) / "manifest.json", {})
        else:
            cell = read_spec(Path(command[3]))
            write_cell(self.paths, cell, 0.6)
        return Done(0)


@pytest.fixture(autouse=True)
def quick_poll(monkeypatch):
    monkeypatch.setattr(processes, "POLL", 0.0)


def test_sweep_runs_all_once_and_then_nothing(tmp_path):
    plan, paths, stream = small_plan(only=("sft", "dpo"), seeds=1), Paths(tmp_path), io.StringIO()
    launcher = Pretend(paths)
    assert sweep(plan, paths, launcher, jobs=2, stream=stream)
    assert len(launcher.began) == len(set(launcher.began)) == 1 + 1 + 2 + 4 + 2
    assert "DPO, pairs (mixture), lr 0.001, seed 1: R 0.61" in stream.getvalue()
    again = Pretend(paths)
    assert sweep(plan, paths, again, stream=stream) and again.began == []
    more = Pretend(paths)
    assert sweep(small_plan(only=("sft", "dpo"), seeds=2), paths, more, stream=stream) and len(more.began) == 2


def test_no_cell_begins_after_the_budget(tmp_path):
    plan, paths = small_plan(), Paths(tmp_path)
    launcher = Pretend(paths)
    assert not sweep(plan, paths, launcher, budget=0, stream=io.StringIO())
    assert launcher.began == []


def test_a_cell_that_fails_is_noted_and_the_rest_goes_on(tmp_path):
    plan, paths, stream = small_plan(only=("sft",), seeds=2), Paths(tmp_path), io.StringIO()
    assert sweep(plan, paths, Pretend(paths, fail="mixture-sft-lr0.003"), stream=stream)
    assert "FAILED, seppo-image: it broke" in stream.getvalue()
    table = load_table(plan, paths)
    (row,) = [row for row in table.rows if row.arm == "sft"]
    assert row.rate == 1e-3 and row.seeds == (1, 2) and row.tuning[1] == ((3e-3, None, None), None)
    assert "it broke" in row.failures[0] and "it broke" in markdown(table, plan, {})


def test_data_that_cannot_be_written_end_the_sweep(tmp_path):
    paths = Paths(tmp_path)
    with pytest.raises(TaskFailed, match="writing the data ended with status 1: seppo-image: it broke"):
        sweep(small_plan(), paths, Pretend(paths, fail="data"), stream=io.StringIO())


def test_processes_end_with_the_sweep_and_none_is_begun_after_a_signal(tmp_path):
    """A signal that comes in the middle of a start waits until the process is known, and then ends it."""
    plan, paths = small_plan(), Paths(tmp_path)
    ended = []

    class Long:
        exitcode = None

        def terminate(self):
            ended.append(self)
            self.exitcode = 143

        def join(self, timeout=None):
            pass

    class Interrupted:
        def start(self, command, log):
            os.kill(os.getpid(), signal.SIGTERM)
            return Long()

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        sweep(plan, paths, Interrupted(), jobs=1, stream=io.StringIO())
    assert stop.value.code == 143 and len(ended) == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("status", [BUSY, 143, -9])
def test_a_cell_that_is_ended_or_held_from_outside_stops_the_sweep_and_is_no_failure(tmp_path, status):
    plan, paths = small_plan(only=("sft",)), Paths(tmp_path)

    class Held(Pretend):
        def start(self, command, log):
            done = super().start(command, log)
            return Done(status) if log.stem.startswith("mixture-sft") else done

    with pytest.raises(TaskFailed, match=f"ended with status {status}"):
        sweep(plan, paths, Held(paths), stream=io.StringIO())
    assert all(failure(paths, cell) is None for cell in plan.tuning("mixture", "sft"))
