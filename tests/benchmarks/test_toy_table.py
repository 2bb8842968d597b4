"""The toy table's machinery: data, plan, order of work, rows, and what is printed."""

import io
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main as benchmarks_main
from benchmarks.demo.plan import ROOT
from benchmarks.demo.runner import TaskFailed
from benchmarks.toy.captions import held_out, train_captions
from benchmarks.toy.mixture import score_samples
from benchmarks.toy.sets import read_set
from benchmarks.toy_table import sweep as sweep_module
from benchmarks.toy_table.arms import ARMS
from benchmarks.toy_table.data import training, validation, write_data
from benchmarks.toy_table.main import write_report
from benchmarks.toy_table.places import Places, read_result, read_spec
from benchmarks.toy_table.plan import LADDER, REGIMES, SCALES, Cell, Plan, Scale, arm_config
from benchmarks.toy_table.queue import best_rate, beyond, cells_to_do, failure, forget_failures, next_job, note_failure
from benchmarks.toy_table.results import difference, load_table
from benchmarks.toy_table.sweep import BUSY, sweep
from benchmarks.toy_table.text import HEADINGS, cells, markdown
from seppo_core.files import save_json
from tests.benchmarks.toy_cells import write_cell

FEW = ("seppo", "sft", "dpo")
SCORES = {"base": 0.6, "sft": 0.65, "sft_matched": 0.66, "seppo": 0.7, "dpo": 0.58}


def small_plan(**options) -> Plan:
    scale = Scale(size=16, rates=(1e-3, 3e-3), extend=0, noises=2, tuning_noises=1)
    return Plan("image", scale, **{"seeds": 3} | options)


def write_all(places: Places, plan: Plan, arms: tuple[str, ...] = FEW, seeds: int = 3) -> None:
    """Every cell of these arms; the higher rate is the better one."""
    write_cell(places, plan.base(), SCORES["base"])
    for arm in arms:
        for cell in plan.tuning("main", arm):
            write_cell(places, cell, 10 * cell.rate)
        for cell in plan.final("main", arm, 3e-3)[:seeds]:
            write_cell(places, cell, SCORES[arm])


# data


@pytest.mark.parametrize("modality", ["image", "video"])
def test_validation_training_and_test_share_no_caption(modality):
    parts = [set(validation(modality)), set(training(modality)), set(held_out(modality))]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert parts[0] | parts[1] == set(train_captions(modality))


def test_pairs_and_labels_are_the_winners_and_worse_draws(tmp_path):
    found = write_data(tmp_path, "image", 24, seed=1)
    winners, captions = read_set(tmp_path / "winners")
    losers, _ = read_set(tmp_path / "losers")
    # 8-bit files: a tie may turn by rounding
    assert (score_samples("image", winners, captions) >= score_samples("image", losers, captions) - 0.02).all()
    assert found["scores"]["losers"] < found["scores"]["weak"] < found["scores"]["winners"]
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    labels = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in pairs] == captions
    assert {row["file_name"] for row in labels if row["label"]} == {row["file_name"] for row in pairs}
    assert {row["file_name"] for row in labels if not row["label"]} == {row["loser_file_name"] for row in pairs}
    assert all((tmp_path / row["file_name"]).is_file() for row in labels)
    assert not set(captions) & set(validation("image"))


def test_data_are_written_once_and_others_are_refused(tmp_path):
    write_data(tmp_path, "image", 8, seed=0)
    before = (tmp_path / "pairs.jsonl").stat().st_mtime_ns
    write_data(tmp_path, "image", 8, seed=0)
    assert (tmp_path / "pairs.jsonl").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="name another --out"):
        write_data(tmp_path, "image", 8, seed=1)
    # begun and broken off: done anew
    (tmp_path / "data.json").unlink()
    write_data(tmp_path, "image", 8, seed=1)


# the plan


@pytest.mark.parametrize("modality", ["image", "video"])
@pytest.mark.parametrize("scale", ["quick", "full"])
def test_every_arm_has_cells_of_its_own(modality, scale):
    plan = Plan(modality, SCALES[modality][scale], regimes=tuple(REGIMES))
    found: list[Cell] = [plan.base()]
    for regime in plan.regimes:
        for arm in plan.arms(regime):
            found += [*plan.tuning(regime, arm), *plan.final(regime, arm, 1e-3)]
    assert len({cell.key for cell in found}) == len(found) == len({cell.name for cell in found})
    assert {cell.seed for cell in found if cell.role == "tune"}.isdisjoint(
        cell.seed for cell in found if cell.role == "final" and cell.config
    )


def test_image_arms_cover_every_method_from_one_base_and_batch():
    plan = Plan("image", SCALES["image"]["quick"])
    assert ["base", *plan.arms("main")] == list(ARMS)
    configs = {arm: arm_config("image", ARMS[arm]) for arm in plan.arms("main")}
    assert {config.method.name for config in configs.values()} == {
        "seppo", "sspo", "sft", "dpo", "spin", "ditto", "mapo", "kto",
    }  # fmt: skip
    assert len({(config.model, config.preview, config.reference_samples.steps) for config in configs.values()
                if config.method.recipe.second == "generated"}) == 1  # fmt: skip
    assert {arm: configs[arm].data.form for arm in ("dpo", "dpo_guard", "mapo", "kto")} == {
        "dpo": "pairs", "dpo_guard": "pairs", "mapo": "pairs", "kto": "labels",
    }  # fmt: skip
    assert all(configs[arm].data.form == ARMS[arm].data for arm in ("dpo", "mapo", "kto"))


@pytest.mark.parametrize("regime", ["main", "long"])
def test_matched_sft_costs_as_many_passes_as_seppo(regime):
    plan = Plan("image", SCALES["image"]["quick"])
    matched, seppo, sft = (plan.cell(regime, arm, 1e-3, 1, "final") for arm in ("sft_matched", "seppo", "sft"))
    assert abs(matched.passes / seppo.passes - 1) < 0.01 and sft.passes < seppo.passes / 5
    # 8 steps to generate, 2 of the reference, 2 of the policy with a backward pass that counts as two
    assert seppo.passes == 60 * 16 * (8 + 2 + 2 * 3) * (3 if regime == "long" else 1)
    assert sft.passes == 60 * 16 * 3 * (3 if regime == "long" else 1)


def test_what_decides_a_cell_changes_its_key_and_more_seeds_do_not():
    plan = small_plan()
    cell = plan.cell("main", "seppo", 1e-3, 1, "final")
    assert small_plan(seeds=9, only=("sft",)).cell("main", "seppo", 1e-3, 1, "final").key == cell.key
    for other in (
        plan.cell("main", "seppo", 3e-3, 1, "final"), plan.cell("main", "seppo", 1e-3, 2, "final"),
        plan.cell("few", "seppo", 1e-3, 1, "final"), plan.cell("main", "seppo_latest", 1e-3, 1, "final"),
        Plan("image", replace(plan.scale, size=32)).cell("main", "seppo", 1e-3, 1, "final"),
        small_plan(data_seed=1).cell("main", "seppo", 1e-3, 1, "final"),
    ):  # fmt: skip
        assert other.key != cell.key


# the order of work


def test_work_goes_from_data_to_rates_to_seeds(tmp_path):
    plan, places = small_plan(only=("sft", "dpo")), Places(tmp_path)
    assert next_job(plan, places, ()).name == "data"
    assert next_job(plan, places, {"data"}) is None
    save_json(places.data("image") / "data.json", {"scores": {}})
    assert next_job(plan, places, ()).cell == plan.base()
    write_cell(places, plan.base(), 0.6)

    prepare = next_job(plan, places, ())
    assert prepare.name == "prepare-image-winners" and prepare.command[:3] == ("-m", "seppo_image", "prepare")
    # while that runs, pairs can be encoded
    pairs = next_job(plan, places, {prepare.name})
    assert pairs.name == "prepare-image-pairs" and ("--data.form", "pairs") == pairs.command[-2:]
    for kind in ("winners", "pairs"):
        save_json(places.cache("image", kind) / "manifest.json", {})

    order = []
    while (job := next_job(plan, places, ())) is not None:
        order.append((job.cell.arm, job.cell.role, job.cell.rate, job.cell.seed))
        write_cell(places, job.cell, 10 * job.cell.rate)
    rates = [(arm, "tune", rate, 0) for arm in ("sft", "dpo") for rate in (1e-3, 3e-3)]
    assert order == rates + [(arm, "final", 3e-3, seed) for seed in (1, 2, 3) for arm in ("sft", "dpo")]


def test_busy_cells_are_not_begun_twice_and_unknown_rates_wait(tmp_path):
    plan, places = small_plan(only=("sft",)), Places(tmp_path)
    save_json(places.data("image") / "data.json", {"scores": {}})
    save_json(places.cache("image", "winners") / "manifest.json", {})
    write_cell(places, plan.base(), 0.6)
    first, second = plan.tuning("main", "sft")
    write_cell(places, first, 0.6)
    assert next_job(plan, places, ()).cell == second
    assert next_job(plan, places, {second.name}) is None
    waiting = [can_begin for _, can_begin in cells_to_do(plan, places)]
    assert waiting == [True, False, False, False]


def test_best_rate_needs_all_of_them_and_takes_the_lower_of_a_tie(tmp_path):
    plan, places = small_plan(), Places(tmp_path)
    low, high = plan.tuning("main", "sft")
    write_cell(places, low, 0.6)
    assert best_rate(plan, places, "main", "sft") is None
    write_cell(places, high, 0.6)
    assert best_rate(plan, places, "main", "sft") == low.rate
    write_cell(places, high, 0.7)
    assert best_rate(plan, places, "main", "sft") == high.rate


def test_a_best_rate_at_the_edge_is_looked_beyond_as_often_as_allowed(tmp_path):
    plan, places = small_plan(only=("sft",)), Places(tmp_path)
    plan.scale = replace(plan.scale, extend=2)
    write_cell(places, plan.base(), 0.6)
    save_json(places.data("image") / "data.json", {"scores": {}})
    save_json(places.cache("image", "winners") / "manifest.json", {})
    tried = []
    while (job := next_job(plan, places, ())).cell.role == "tune":
        tried.append(job.cell.rate)
        write_cell(places, job.cell, -job.cell.rate)  # the lower the better
    assert tried == [1e-3, 3e-3, 3e-4, 1e-4] and job.cell.rate == 1e-4
    row = next(row for row in load_table(plan, places).rows if row.arm == "sft")
    assert [rate for rate, _ in row.tuning] == [1e-4, 3e-4, 1e-3, 3e-3] and row.at_edge


def test_no_rate_is_looked_for_beyond_one_inside_the_grid_or_the_ladders_end():
    assert beyond([3e-4, 1e-3, 3e-3], 1e-3) is None and beyond([1e-3], 1e-3) is None
    assert beyond([3e-4, 1e-3], 1e-3) == 3e-3 and beyond([3e-4, 1e-3], 3e-4) == 1e-4
    assert beyond([LADDER[0], 1e-3], LADDER[0]) is None and beyond([1e-3, LADDER[-1]], LADDER[-1]) is None


def test_a_rate_that_failed_is_not_chosen_and_can_be_tried_again(tmp_path):
    plan, places = small_plan(only=("sft",)), Places(tmp_path)
    low, high = plan.tuning("main", "sft")
    write_cell(places, low, 0.6)
    note_failure(places, high, "loss is not finite")
    assert best_rate(plan, places, "main", "sft") == low.rate
    assert failure(places, high) == "loss is not finite"
    note_failure(places, low, "nor here")
    (places.cell(low) / "cell.json").unlink()
    assert best_rate(plan, places, "main", "sft") is None
    # no rate came through: nothing is left to be done
    write_cell(places, plan.base(), 0.6)
    assert list(cells_to_do(plan, places)) == []
    forget_failures(places)
    assert len(list(cells_to_do(plan, places))) == 2 + 3


# the sweep


class Done:
    """A process that has ended already."""

    def __init__(self, exitcode: int):
        self.exitcode = exitcode


class Pretend:
    """A launcher whose processes do their work at once: `fail` names jobs that end with status 1."""

    def __init__(self, places: Places, fail: str = "-"):
        self.places, self.fail, self.began = places, fail, []

    def start(self, command, log: Path) -> Done:
        self.began.append(log.stem)
        if log.stem.startswith(self.fail):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("traceback\nseppo-image: it broke\n")
            return Done(1)
        if "benchmarks.toy_table.data" in command:
            save_json(self.places.data("image") / "data.json", {"scores": {}})
        elif "prepare" in command:
            save_json(Path(command[command.index("--data.cache") + 1]) / "manifest.json", {})
        else:
            cell = read_spec(Path(command[-1]))
            write_cell(self.places, cell, 0.6)
        return Done(0)


@pytest.fixture(autouse=True)
def quick_poll(monkeypatch):
    monkeypatch.setattr(sweep_module, "POLL", 0.0)


def test_sweep_runs_all_once_and_then_nothing(tmp_path):
    plan, places, stream = small_plan(only=("sft", "dpo"), seeds=1), Places(tmp_path), io.StringIO()
    launcher = Pretend(places)
    assert sweep(plan, places, launcher, jobs=2, stream=stream)
    assert len(launcher.began) == len(set(launcher.began)) == 1 + 1 + 2 + 4 + 2
    assert "DPO, pairs, lr 0.001, seed 1: R 0.61" in stream.getvalue()
    again = Pretend(places)
    assert sweep(plan, places, again, stream=stream) and again.began == []
    more = Pretend(places)
    assert sweep(small_plan(only=("sft", "dpo"), seeds=2), places, more, stream=stream) and len(more.began) == 2


def test_no_cell_begins_after_the_budget(tmp_path):
    plan, places = small_plan(), Places(tmp_path)
    launcher = Pretend(places)
    assert not sweep(plan, places, launcher, budget=0, stream=io.StringIO())
    assert launcher.began == []


def test_a_cell_that_fails_is_noted_and_the_rest_goes_on(tmp_path):
    plan, places, stream = small_plan(only=("sft",), seeds=2), Places(tmp_path), io.StringIO()
    assert sweep(plan, places, Pretend(places, fail="main-sft-lr0.003"), stream=stream)
    assert "FAILED, seppo-image: it broke" in stream.getvalue()
    table = load_table(plan, places)
    (row,) = [row for row in table.rows if row.arm == "sft"]
    assert row.rate == 1e-3 and row.seeds == (1, 2) and row.tuning[1] == (3e-3, None)
    assert "it broke" in row.failures[0] and "it broke" in markdown(table, plan, {})


def test_data_that_cannot_be_written_end_the_sweep(tmp_path):
    places = Places(tmp_path)
    with pytest.raises(TaskFailed, match="writing the data ended with status 1: seppo-image: it broke"):
        sweep(small_plan(), places, Pretend(places, fail="data"), stream=io.StringIO())


# rows


def test_differences_are_paired_by_seed_and_the_base_is_one_for_all():
    prompts = np.linspace(0, 1, 6)
    first = {seed: prompts + seed + 0.25 for seed in (1, 2, 3)}
    second = {seed: prompts + seed for seed in (2, 3, 4)}
    # what differs between seeds and prompts cancels
    interval, seeds = difference(first, second)
    assert seeds == 2 and interval == pytest.approx((0.25, 0.25, 0.25))
    against_base, seeds = difference(first, {0: prompts})
    assert seeds == 3 and against_base.value == pytest.approx(2.25)
    assert against_base.low < 2 and against_base.high > 2.5, "training seeds differ, and are resampled"
    assert difference(first, {9: prompts}) is None and difference({}, {0: prompts}) is None


def test_rows_hold_what_the_cells_hold(tmp_path):
    plan, places = small_plan(), Places(tmp_path)
    write_all(places, plan)
    table = load_table(plan, places)
    rows = {row.arm: row for row in table.rows}
    # luck of seeds 1 to 3 is 0.02 on average
    assert rows["seppo"].mean.value == pytest.approx(SCORES["seppo"] + 0.02)
    assert rows["seppo"].over["sft"].value == pytest.approx(0.05) and rows["seppo"].over["sft"].low > 0.049
    assert rows["seppo"].over["base"].value == pytest.approx(0.12)
    assert rows["seppo"].rate == 3e-3 and rows["seppo"].at_edge
    assert rows["seppo"].seconds == 10 and rows["seppo"].shares["plus"] == pytest.approx(0.4)
    # + on items 0 and 2 of every 4, worse on 0 and 1
    assert rows["seppo"].anchor.precision.value == rows["seppo"].anchor.recall.value == 0.5
    assert rows["dpo"].anchor is None and rows["dpo"].over["sft"].high < 0
    assert not rows["seppo"].is_partial and rows["kto"].is_partial and rows["kto"].mean is None
    verdicts = {(one.first, one.second): one.verdict for one in table.comparisons}
    assert verdicts[("seppo", "sft")] == verdicts[("seppo", "dpo")] == "above" and table.is_partial


def test_seconds_of_a_run_that_was_broken_off_are_not_counted(tmp_path):
    plan, places = small_plan(), Places(tmp_path)
    write_all(places, plan)
    write_cell(places, plan.cell("main", "seppo", 3e-3, 1, "final"), 0.7, seconds=None)
    row = next(row for row in load_table(plan, places).rows if row.arm == "seppo")
    assert row.seconds == 10 and len(row.seeds) == 3


def test_markdown_marks_what_is_missing(tmp_path):
    plan, places = small_plan(), Places(tmp_path)
    write_all(places, plan, seeds=2)
    table = load_table(plan, places)
    rows = {row.arm: cells(row) for row in table.rows}
    assert all(len(row) == len(HEADINGS) for row in rows.values())
    assert rows["seppo"][2] == "2 of 3 †" and rows["seppo"][1] == "0.003*"
    assert rows["seppo"][5].startswith("**+.050** (+.050 to +.050)") and rows["kto"][3] == "–"
    text = markdown(table, plan, {"winners": 0.8})
    assert "| KTO" not in text and "KTO, labels" in text.partition("Not run yet: ")[2]
    assert "in processor time" not in text, "the matched SFT is not there"
    assert "**Partial:**" in text and "SePPO − SFT: +0.050" in text and "above, 2 seeds" in text


def test_report_is_versioned_and_its_page_stands_alone(tmp_path, capsys):
    plan, places = small_plan(regimes=("main", "few")), Places(tmp_path)
    write_all(places, plan)
    assert write_report(plan, places, tmp_path, True, 1.0) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["format"], report["kind"], report["partial"]) == (1, "seppo-toy-report", True)
    seppo = next(row for row in report["rows"] if row["arm"] == "seppo" and row["regime"] == "main")
    assert seppo["seeds"] == [1, 2, 3] and len(seppo["mean"]) == 3 and seppo["anchor"]["precision"][0] == 0.5
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "") and "<svg" in page and held_out("image")[0] in page
    assert (tmp_path / "report.md").read_text(encoding="utf-8") in capsys.readouterr().out


def test_mistakes_on_the_command_line(capsys):
    for wrong in (["--only", "sftt"], ["--jobs", "0"], ["--budget", "-1"], ["--modality", "sound"]):
        with pytest.raises(SystemExit) as stop:
            benchmarks_main(["toy", *wrong])
        assert stop.value.code == 2


def test_a_stored_cell_reads_back_as_it_was(tmp_path):
    plan, places = small_plan(), Places(tmp_path)
    cell = plan.cell("main", "seppo", 1e-3, 1, "final")
    write_cell(places, cell, 0.5)
    assert read_spec(places.cell(cell)) == cell and read_result(places, cell).cell == cell
    assert (ROOT / cell.config).is_file()


def test_processes_end_with_the_sweep_and_none_is_begun_after_a_signal(tmp_path):
    """A signal that comes in the middle of a start waits until the process is known, and then ends it."""
    plan, places = small_plan(), Places(tmp_path)
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
        sweep(plan, places, Interrupted(), jobs=1, stream=io.StringIO())
    assert stop.value.code == 143 and len(ended) == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("status", [BUSY, 143, -9])
def test_a_cell_that_is_ended_or_held_from_outside_stops_the_sweep_and_is_no_failure(tmp_path, status):
    plan, places = small_plan(only=("sft",)), Places(tmp_path)

    class Held(Pretend):
        def start(self, command, log):
            done = super().start(command, log)
            return Done(status) if log.stem.startswith("main-sft") else done

    with pytest.raises(TaskFailed, match=f"ended with status {status}"):
        sweep(plan, places, Held(places), stream=io.StringIO())
    assert all(failure(places, cell) is None for cell in plan.tuning("main", "sft"))
