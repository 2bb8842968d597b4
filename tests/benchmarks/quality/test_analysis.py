"""Statistics of a report: against numpy on the same scores, with gaps, by category, in groups, and of sets."""

import csv
import io
import json

import numpy as np
import pytest
import torch

from benchmarks.evaluation.analysis import analyse
from benchmarks.evaluation.folder import JudgeEntry
from benchmarks.evaluation.generate import generate
from benchmarks.evaluation.prompts import text_mark
from benchmarks.evaluation.report.files import scores_csv, write_report
from benchmarks.evaluation.report.gallery import chosen_rows
from benchmarks.evaluation.report.text import latex, markdown, read_report
from benchmarks.evaluation.results import collect
from benchmarks.evaluation.store import score_key
from seppo_core.judging.columns import Score
from tests.benchmarks.quality.fake import FakeSampler, judge_entry, open_plan

RANDOM = np.random.default_rng(0)


def with_scores(root, tables, count=6, metrics=("clip_score",), **changes):
    """A plan whose models have the given scores: {model: {metric: (prompts, seeds)}}; NaN is a failure."""
    folder, plan = open_plan(root, list(tables), count, **changes)
    judges = {metric: JudgeEntry(metric, metric[0] * 64, {"column": metric}, 0) for metric in metrics}
    for number, model in enumerate(plan.models):
        sampler = FakeSampler()
        sampler._frames = lambda job, number=number: (
            torch.full((1, 4, 4, 3), number, dtype=torch.uint8)
            + (torch.arange(48).reshape(1, 4, 4, 3) * job.seed % 251).to(torch.uint8)
        )
        generate(folder.samples(model), plan.prompts.prompts, plan.protocol, lambda s=sampler: s, {})
        samples = folder.samples(model)
        for metric in metrics:
            store = folder.scores(judges[metric])
            with store.writer({}, None) as writer:
                for row, prompt in enumerate(plan.prompts.prompts):
                    for at, seed in enumerate(plan.protocol.seeds):
                        value = float(tables[model.name][metric][row, at])
                        record = samples.find(prompt, seed)
                        known = Score({}, "broken") if np.isnan(value) else Score({metric: value})
                        writer.add(score_key(record.sha256, text_mark(prompt.text), None), known)
    for judge in judges.values():
        folder.note_judge(judge)
    return folder


def two(count=6, metrics=("clip_score", "aesthetic")):
    return {
        name: {metric: RANDOM.normal(shift, 1, (count, 2)) for metric in metrics}
        for name, shift in (("base", 0.0), ("tuned", 0.5))
    }


def test_means_differences_and_corrections_are_those_of_the_scores(tmp_path):
    tables = two(20)
    report, _ = analyse(with_scores(tmp_path, tables, 20, ("clip_score", "aesthetic")))
    for row in report["scores"]:
        table = tables[row["model"]][row["column"]]
        assert row["mean"] == pytest.approx(table.mean()) and row["low"] < row["mean"] < row["high"]
        assert row["seed_sd"] == pytest.approx(table.std(1, ddof=1).mean())
    for row in report["differences"]:
        difference = (tables["tuned"][row["column"]] - tables["base"][row["column"]]).mean(1)
        assert row["mean"] == pytest.approx(difference.mean())
        assert row["effect"] == pytest.approx(difference.mean() / difference.std(ddof=1))
        assert row["detectable"] == pytest.approx(2.8016 * difference.std(ddof=1) / 20**0.5)
        wins = tables["tuned"][row["column"]] > tables["base"][row["column"]]
        assert row["win_rate"][0] == pytest.approx(wins.mean())
    raw = sorted(row["p"] for row in report["differences"])
    adjusted = sorted(row["p_holm"] for row in report["differences"])
    assert adjusted == pytest.approx([min(1, 2 * raw[0]), max(min(1, 2 * raw[0]), raw[1])])


def test_where_less_is_better_fewer_wins(tmp_path):
    tables = {name: {"lpips_alex": np.full((6, 2), value)} for name, value in (("base", 0.5), ("tuned", 0.4))}
    folder = with_scores(tmp_path, tables, metrics=("lpips_alex",))
    folder.reference_writer(None).__exit__()
    row = analyse(folder)[0]["differences"][0]
    assert row["mean"] == pytest.approx(-0.1) and row["win_rate"][0] == 1


def test_gaps_are_left_out_of_pairs_and_counted(tmp_path):
    tables = two(8, ("clip_score",))
    tables["tuned"]["clip_score"][3, 1] = np.nan
    tables["tuned"]["clip_score"][5] = np.nan
    report, _ = analyse(with_scores(tmp_path, tables, 8))
    base, tuned = report["scores"]
    assert (base["prompts"], tuned["prompts"]) == (8, 7)
    assert tuned["not_scored"] == {"broken": 3}
    # prompt 3 keeps the seed it has in the mean, and is left out of the pairs
    rest = tables["tuned"]["clip_score"]
    assert tuned["mean"] == pytest.approx(np.nanmean(rest[~np.isnan(rest).all(1)], 1).mean())
    assert (report["differences"][0]["prompts"], report["differences"][0]["left_out"]) == (6, 2)


def test_categories_have_their_own_means_and_gains(tmp_path):
    tables = two(9, ("clip_score",))
    report, _ = analyse(with_scores(tmp_path, tables, 9))
    rows = {(row["value"], row["model"]): row for row in report["categories"]}
    even = slice(0, None, 2)
    assert rows["even", "tuned"]["mean"] == pytest.approx(tables["tuned"]["clip_score"][even].mean())
    gain = (tables["tuned"]["clip_score"] - tables["base"]["clip_score"])[even].mean()
    assert rows["even", "tuned"]["gain"][0] == pytest.approx(gain)
    assert "gain" not in rows["even", "base"] and rows["odd", "base"]["prompts"] == 4


def test_groups_are_consecutive_prompts_of_a_style(tmp_path):
    tables = two(12, ("clip_score",))
    report, _ = analyse(with_scores(tmp_path, tables, 12, group_size=2))
    row = next(row for row in report["groups"] if row["style"] == "odd" and row["model"] == "base")
    odd = tables["base"]["clip_score"][1::2].mean(1)
    groups = odd.reshape(3, 2).mean(1)
    assert (row["groups"], row["mean"], row["deviation"]) == (
        3,
        pytest.approx(groups.mean()),
        pytest.approx(groups.std()),
    )


def test_files_agree_with_each_other_and_with_the_scores(tmp_path):
    tables = two()
    folder = with_scores(tmp_path, tables, metrics=("clip_score", "aesthetic"))
    report = write_report(folder)
    assert read_report(folder.folder) == json.loads(json.dumps(report))
    rows = list(csv.DictReader(io.StringIO((folder.folder / "scores.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 24
    found = [float(row["aesthetic"]) for row in rows if row["model"] == "tuned"]
    assert found == tables["tuned"]["aesthetic"].flatten().tolist()
    text = (folder.folder / "table.md").read_text(encoding="utf-8")
    assert f"{tables['tuned']['aesthetic'].mean():.3f} [" in text
    assert r"\toprule" in (folder.folder / "table.tex").read_text(encoding="utf-8")
    assert (folder.folder / "index.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(ValueError, match="--baseline 'x'"):
        analyse(folder, "x")
    assert analyse(folder, "tuned")[0]["differences"][0]["model"] == "base"


def test_only_gains_are_wins_and_only_losses_are_losses():
    gains = np.array([0.5, -0.1, np.nan, 0.0, -0.3, -0.2] + 20 * [0.0] + [0.7])
    shown = {item.row: item.why for item in chosen_rows({"tuned": gains}, len(gains))}
    assert [row for row, why in shown.items() if why == "win of tuned"] == [26, 0]
    assert [row for row, why in shown.items() if why == "loss of tuned"] == [4, 5, 1]
    assert {why for row, why in shown.items() if row not in (26, 0, 4, 5, 1)} == {"not selected"}


def test_untrusted_names_stay_text_in_every_file(tmp_path):
    name = "=cmd|' /C' & <script>alert(1)</script> `x` _y_"
    folder = with_scores(tmp_path, {"base": two()["base"], name: two()["tuned"]})
    report, results = analyse(folder)
    assert f"'{name}" in scores_csv(results).replace('""', '"')
    assert "<script>" not in markdown(report).replace("\\<", "")
    assert "|' /C'" not in markdown(report).replace("\\|", "")
    assert r"\&" in latex(report) and "_y_" not in latex(report)


def test_an_empty_folder_and_unfinished_work_say_so(tmp_path):
    folder, _plan = open_plan(tmp_path)
    folder.note_judge(judge_entry())
    report, _ = analyse(folder)
    assert all("mean" not in row for row in report["scores"])
    assert "base, tuned: not drawn yet: 12 of 12 samples." in report["warnings"]
    assert collect(folder).models[0].count == 0
