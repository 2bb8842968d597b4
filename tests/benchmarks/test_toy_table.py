"""The toy table's rows, and what is printed of them."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.__main__ import main as benchmarks_main
from benchmarks.experiments.toy import main as toy
from benchmarks.experiments.toy import queue
from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.curves import BAND
from benchmarks.experiments.toy.folder import Paths, read_result, read_spec
from benchmarks.experiments.toy.main import write_report
from benchmarks.experiments.toy.plan import Plan
from benchmarks.experiments.toy.publish import (
    between,
    over_control,
    publish,
    publish_regimes,
    score_curves,
    told_of_curves,
)
from benchmarks.experiments.toy.results import Row, difference, load_table
from benchmarks.experiments.toy.text import HEADINGS, best_points, cells, markdown
from seppo_core.toy.captions import held_out
from tests.benchmarks.toy_cells import small_plan, write_cell

FEW = ("seppo", "sft", "dpo")
SCORES = {"base": 0.6, "sft": 0.65, "sft_matched": 0.66, "seppo": 0.7, "dpo": 0.58}


SVG = "{http://www.w3.org/2000/svg}"


def write_all(paths: Paths, plan: Plan, arms: tuple[str, ...] = FEW, seeds: int = 3) -> None:
    """Every cell of these arms; the higher rate is the better one."""
    write_cell(paths, plan.base(), SCORES["base"])
    for arm in arms:
        for cell in plan.tuning("mixture", arm):
            write_cell(paths, cell, 10 * cell.rate)
        for cell in plan.final("mixture", arm, (3e-3, None, None))[:seeds]:
            write_cell(paths, cell, SCORES[arm])


def test_differences_are_paired_by_seed_and_the_base_is_one_for_all():
    prompts = np.linspace(0, 1, 6)
    first = {seed: prompts + seed + 0.25 for seed in (1, 2, 3)}
    second = {seed: prompts + seed for seed in (2, 3, 4)}
    # what differs between seeds and prompts cancels
    interval, seeds = difference(first, second)
    assert seeds == 2 and interval == pytest.approx((0.25, 0.25, 0.25))
    against_base, seeds = difference(first, {0: prompts})
    assert seeds == 3 and against_base.value == pytest.approx(2.25)
    # runs of means 1, 2 and 3: t of 2 degrees of freedom
    assert against_base.high == pytest.approx(2.25 + 4.30265 / 3**0.5, abs=1e-3)
    assert difference(first, {9: prompts}) is None and difference({}, {0: prompts}) is None


def test_rows_hold_what_the_cells_hold(tmp_path):
    plan, paths = small_plan(), Paths(tmp_path)
    write_all(paths, plan)
    # the seconds of a run that was broken off are not counted
    write_cell(paths, plan.cell("mixture", "seppo", (3e-3, None, None), 1, "final"), SCORES["seppo"], seconds=None)
    table = load_table(plan, paths)
    rows = {row.arm: row for row in table.rows}
    # luck of seeds 1 to 3 is 0.02 on average
    assert rows["seppo"].mean.value == pytest.approx(SCORES["seppo"] + 0.02)
    assert rows["seppo"].over["sft"].value == pytest.approx(0.05) and rows["seppo"].over["sft"].low > 0.049
    assert rows["seppo"].over["base"].value == pytest.approx(0.12)
    assert rows["seppo"].rate == 3e-3 and rows["seppo"].at_edge(0)
    assert rows["seppo"].seconds == 10 and rows["seppo"].shares["plus"] == pytest.approx(0.4)
    # + on items 0 and 2 of every 4, worse on 0 and 1
    assert rows["seppo"].anchor.precision.value == rows["seppo"].anchor.recall.value == 0.5
    assert rows["dpo"].anchor is None and rows["dpo"].over["sft"].high < 0
    assert not rows["seppo"].is_partial and rows["kto"].is_partial and rows["kto"].mean is None
    verdicts = {(one.first, one.second): one.verdict for one in table.comparisons}
    assert verdicts[("seppo", "sft")] == verdicts[("seppo", "dpo")] == "above" and table.is_partial


def test_markdown_marks_what_is_missing(tmp_path):
    plan, paths = small_plan(), Paths(tmp_path)
    write_all(paths, plan, seeds=2)
    table = load_table(plan, paths)
    rows = {row.arm: cells(row) for row in table.rows}
    assert all(len(row) == len(HEADINGS) for row in rows.values())
    assert rows["seppo"][4] == "2 of 3 †" and rows["seppo"][1:4] == ["0.003*", "–", "–"]
    assert rows["seppo"][7].startswith("**+.050** (+.050 to +.050)") and rows["kto"][5] == "–"
    text = markdown(table, plan, {"winners": 0.8})
    assert "| KTO" not in text and "KTO, labels" in text.partition("Not run yet: ")[2]
    assert "in processor time" not in text, "the matched SFT is not there"
    assert "**Partial:**" in text and "SePPO − SFT: +0.050" in text and "above, 2 seeds" in text


def test_report_is_versioned_and_its_page_stands_alone(tmp_path, capsys):
    plan, paths = small_plan(regimes=("mixture", "few")), Paths(tmp_path, tmp_path / "store")
    write_all(paths, plan)
    kept, shown = paths.store / "image_regimes.json", tmp_path / "regimes"
    # no data have been written here, and the report before said what they scored
    kept.write_text(json.dumps({"data": {"winners": 0.8}}), encoding="utf-8")
    assert write_report(plan, paths, shown, True, 1.0) == 0
    report = json.loads((shown / "report.json").read_text(encoding="utf-8"))
    assert (report["format"], report["kind"], report["partial"]) == (1, "seppo-toy-report", True)
    assert report["data"] == {"winners": 0.8} and json.loads(kept.read_text(encoding="utf-8")) == report
    seppo = next(row for row in report["rows"] if row["arm"] == "seppo" and row["regime"] == "mixture")
    assert seppo["seeds"] == [1, 2, 3] and len(seppo["mean"]) == 3 and seppo["anchor"]["precision"][0] == 0.5
    page = (shown / "index.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "") and "<svg" in page and held_out("image")[0] in page
    assert (shown / "report.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert not (tmp_path / "report.json").exists()


def test_mistakes_on_the_command_line(capsys):
    for wrong in (["--only", "sftt"], ["--jobs", "0"], ["--budget", "-1"], ["--modality", "sound"]):
        with pytest.raises(SystemExit) as stop:
            benchmarks_main(["toy", *wrong])
        assert stop.value.code == 2


def test_a_stored_cell_reads_back_as_it_was(tmp_path):
    plan, paths = small_plan(), Paths(tmp_path)
    cell = plan.cell("mixture", "seppo", (1e-3, None, None), 1, "final")
    write_cell(paths, cell, 0.5)
    assert read_spec(paths.cell(cell)) == cell and read_result(paths, cell).cell == cell
    assert (ROOT / cell.config).is_file()


def test_what_is_published_stands_between_the_marks_and_the_figure_stands_alone(tmp_path):
    plan, paths = small_plan(regimes=("own",)), Paths(tmp_path)
    write_cell(paths, plan.base(), SCORES["base"])
    for cell in [*plan.tuning("own", "sft_matched"), *plan.final("own", "sft_matched", (3e-3, None, None))]:
        write_cell(paths, cell, 0.6 + 10 * cell.rate)
    page = tmp_path / "page.md"
    page.write_text("# Before\n<!-- own-image:begin -->\nold\n<!-- own-image:end -->\nafter\n", encoding="utf-8")
    publish(load_table(plan, paths), "image", ["How it was measured."], page, tmp_path / "figures")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Before\n") and text.endswith("\nafter\n") and "\nold\n" not in text
    assert "| SFT, compute-matched | 0.003* |" in text and "How it was measured." in text
    drawn = ElementTree.parse(tmp_path / "figures" / "curves_image.svg")
    names = [one.text for one in drawn.iter(f"{SVG}text")]
    assert names.count("SFT, compute-matched") == 1 and {"base", "mean score R", BAND} <= set(names)
    # without a plain SFT the matched one is the control, and nothing else is there to be held against it
    assert not (tmp_path / "figures" / "differences_image.svg").exists()
    # it makes more updates than the others would, so that the panel of costs is the only one
    assert len(list(drawn.iter(f"{SVG}g"))) == 1 and "updates" not in names and "1000 forward passes" in names
    # the mean begins at the base and goes on over what it cost, and so does its band, there and back
    (curve,) = (one.get("points").split() for one in drawn.iter(f"{SVG}polyline"))
    (band,) = (one.get("points").split() for one in drawn.iter(f"{SVG}polygon"))
    assert len(curve) == 3 and len(band) == 6 and band[0] == band[-1] == curve[0]
    with pytest.raises(ValueError, match="no marks <!-- own-video:begin -->"):
        between(text, "own-video", "")


def test_the_chart_of_differences_puts_the_best_first_and_says_its_figures(tmp_path):
    plan, paths = small_plan(), Paths(tmp_path)
    write_all(paths, plan)
    table = load_table(plan, paths)
    title, drawn = over_control(table.of("mixture"))
    root = ElementTree.fromstring(drawn)
    svg = SVG
    texts = [one.text for one in root.iter(f"{svg}text")]
    rows = sorted((row for row in table.of("mixture") if "sft" in row.over), key=lambda row: -row.over["sft"].value)
    assert [text for text in texts if text in {row.name for row in rows}] == [row.name for row in rows]
    assert title == "Mean score over SFT, paired, with 95 % intervals" and rows
    value, low, high = rows[0].over["sft"]
    assert f"{value:+.3f} ({low:+.3f}, {high:+.3f})" in texts
    # the dot lies on the axis that the ticks draw
    ticks = {
        float(one.text): float(one.get("x"))
        for one in root.iter(f"{svg}text")
        if one.get("text-anchor") == "middle" and one.get("class") == "tick"
    }
    (a, at), (b, bt) = sorted(ticks.items())[0], sorted(ticks.items())[-1]
    dot = float(next(one for one in root.iter(f"{svg}circle")).get("cx"))
    assert dot == pytest.approx(at + (value - a) / (b - a) * (bt - at), abs=0.3)


def row_of_curves(arm: str, passes: int, *curves: list[tuple[int, float]]) -> Row:
    mean = [(update, sum(dict(one)[update] for one in curves) / len(curves)) for update, _ in curves[0]]
    return Row("own", arm, None, [], tuple(range(1, len(curves) + 1)), len(curves), [], {}, None, {}, {}, None, passes,
               None, mean, list(curves))  # fmt: skip


def test_curves_stand_over_updates_and_over_passes_with_one_axis_of_scores():
    rows = [
        row_of_curves("base", 0, [(0, 0.5)]),
        row_of_curves("sft", 3000, [(60, 0.6), (120, 0.8)], [(60, 0.7), (120, 0.6)]),
        row_of_curves("sft_matched", 12000, [(240, 0.7), (480, 0.9)], [(240, 0.7), (480, 0.9)]),
        row_of_curves("kto", 3000, [(60, 0.1), (120, 0.1)]),
    ]
    root = ElementTree.fromstring(score_curves(rows, "<images>"))
    left, right = root.iter(f"{SVG}g")
    means = [{one.get("class"): one for one in panel.iter(f"{SVG}polyline")} for panel in (left, right)]
    # the matched arm is by its cost alone, and plain SFT in both; an arm of the others in none
    assert list(means[0]) == ["curve s2"] and list(means[1]) == ["curve s2", "curve s2 dashed"]
    points = [[tuple(map(float, one.split(","))) for one in panel["curve s2"].get("points").split()] for panel in means]
    assert [y for _, y in points[0]] == [y for _, y in points[1]], "one axis of y"
    # all of 120 updates on the left, a quarter of the passes on the right
    (begin, *_, whole), (_, *_, quarter) = ([x for x, _ in one] for one in points)
    assert quarter - begin == pytest.approx((whole - begin) / 4, abs=0.2)
    # arms of two seeds have a band in each panel that they are in
    assert [len(list(panel.iter(f"{SVG}polygon"))) for panel in (left, right)] == [1, 2]
    told = told_of_curves(rows)
    assert "In the second panel alone: SFT, compute-matched (480 updates). Not drawn: KTO, labels." in told
    # SFT's mean is .650 at 60 updates and .700 at 120, where 12.7062 is the t quantile of .100 on either side
    assert best_points(rows)[2:] == [
        "| SFT, compute-matched | 480 | 12.0k | .900 (.900–.900) | .900–.900 | .900 |",
        "| SFT | 120 | 3.0k | .700 (-0.571–1.971) | .600–.800 | .700 |",
        "| KTO, labels | 60 | 1.5k | .100 | .100–.100 | .100 |",
    ]


def test_arms_that_are_left_out_are_not_missing(tmp_path):
    plan, paths = small_plan(only=("sft",)), Paths(tmp_path)
    tried = [plan.base(), *plan.tuning("mixture", "sft")]
    for cell in tried:
        write_cell(paths, cell, 0.6)
    assert load_table(plan, paths).is_partial
    for cell in plan.final("mixture", "sft", queue.best_setting(plan, paths, "mixture", "sft")):
        write_cell(paths, cell, 0.6)
    assert not load_table(plan, paths).is_partial
    assert load_table(small_plan(only=("sft", "kto")), paths).is_partial


def test_regimes_are_published_a_row_each(tmp_path):
    plan, paths = small_plan(regimes=("mixture", "few")), Paths(tmp_path)
    write_all(paths, plan, ("seppo", "sft", "sft_matched"))
    page = tmp_path / "page.md"
    page.write_text("<!-- regimes-image:begin -->\n<!-- regimes-image:end -->\n", encoding="utf-8")
    publish_regimes(load_table(plan, paths), plan.regimes, "image", [], page)
    lines = page.read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if line.startswith("| as many winners"))
    # luck of seeds 1 to 3 is 0.02 on average
    assert first.split("|")[2:] == [" .600 ", " – ", " .670 ", " .680 ", " .720 ", " – ", " – ", ""]
    assert "| 64 winners in place of all | .600 | – | – |" in "\n".join(lines)
    assert "- mixture: SePPO − SFT, compute-matched: +0.040 (+0.040 to +0.040), above, 3 seeds" in lines


def test_a_tier_is_of_one_modality(capsys):
    assert benchmarks_main(["toy", "--tier", "C", "--modality", "image", "--budget", "0"]) == 1
    assert "tier C is of video; leave --modality image out" in capsys.readouterr().err


def test_all_queues_run_one_after_the_other_and_say_what_is_left(tmp_path, capsys, monkeypatch):
    begun = []

    def run(asked):
        begun.append((asked.tier, asked.regimes, asked.pages, asked.budget))
        if asked.tier == "C":
            raise toy.TaskFailed("the data of clips ended with status 1")
        return 0

    monkeypatch.setattr(toy, "_run", run)
    # counting the cells of all reads every config some hundred times
    monkeypatch.setattr(queue, "left", lambda plan, paths: (len(plan.chosen(plan.regimes[0])), 60.0))
    where = ["--out", str(tmp_path), "--store", str(tmp_path / "store")]
    assert benchmarks_main(["toy", "--all", "--budget", "0", *where]) == 1
    assert begun == [(None, False, "", 0), ("C", False, "clips", 0), ("D", False, "", 0), (None, True, "regimes", 0)]
    told = capsys.readouterr()
    assert "toy: clips, tier C: the data of clips ended with status 1" in told.err
    lines = told.out.splitlines()[-4:]
    assert [line.partition(":")[0] for line in lines] == list(toy.QUEUES)
    assert lines[1:3] == [f"{name}: {count} cells left, about 0:30 with --jobs 2"
                          for name, count in (("clips, tier C", 5), ("larger base, tier D", 3))]  # fmt: skip
    # Ctrl-C ends them all, and what is left is said nevertheless
    monkeypatch.setattr(toy, "_run", lambda asked: (_ for _ in ()).throw(KeyboardInterrupt))
    assert benchmarks_main(["toy", "--all", *where]) == 130
    assert capsys.readouterr().out.splitlines()[-1].startswith("regimes: ")
    assert benchmarks_main(["toy", "--all", "--tier", "C"]) == 1
    assert "--all runs every queue as it is; leave --tier out" in capsys.readouterr().err
