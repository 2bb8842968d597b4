"""What the demo reports: numbers, table, pictures, and the page while it runs and afterwards."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.experiments.toy import demo_picture
from benchmarks.experiments.toy.demo import MARKER, Demo, DemoFolder, Reports
from benchmarks.experiments.toy.demo_arms import ARMS, SHORT, DemoPaths
from benchmarks.experiments.toy.demo_picture import CELL, IN_TERMINAL, in_terminal
from benchmarks.experiments.toy.demo_plan import plan
from benchmarks.experiments.toy.demo_results import load_results
from seppo_core.report.statistics import mean_interval, paired_difference
from tests.benchmarks.demo_folder import write_finished, write_reports


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    for modality in ("image", "video"):
        write_finished(out, modality)
    return out


def test_report_has_every_arm_and_agrees_with_the_scores(finished, capsys):
    report = write_reports(finished, ("image", "video"), {"image/train/seppo": 12.5})
    assert json.loads((finished / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(report))
    for modality in ("image", "video"):
        assert set(report[modality]) == set(SHORT[modality])
        for arm in report[modality].values():
            assert arm["low"] <= arm["mean"] <= arm["high"] and 0 <= arm["win_rate"] <= 1
        assert report[modality]["base"]["win_rate"] == 0.5
    assert report["image"]["seppo"]["seconds"] == 12.5
    protocol = report["meta"]["protocol"]["image"]
    told = {v["text"].split(",")[0]: v["holds"] for v in protocol["verdicts"]}
    assert told["SePPO above base"] is True and told["SePPO above continued"] is True
    assert protocol["set_scores"] == {"winners": 0.75, "losers": 0.45, "continued": 0.67}
    printed = capsys.readouterr().out
    assert "images: 12 held-out prompts x 3 seeds" in printed and "SePPO above base, " in printed
    first, base = (load_results(DemoPaths(finished), "image", SHORT["image"], {}).arms[arm] for arm in ("sft", "base"))
    gain, low, high = paired_difference(first.scores, base.scores)
    line = next(line for line in printed.splitlines() if line.startswith("  SFT  "))
    assert f"{gain:+.3f} ({low:+.3f} to {high:+.3f})" in line
    table = (finished / "report.md").read_text(encoding="utf-8")
    mean = report["video"]["seppo"]["mean"]
    row = next(line for line in table.splitlines() if line.startswith("| **SePPO**"))
    assert f"{mean:.3f} (" in row and row.count("|") == 6
    with Image.open(finished / "images.png") as still, Image.open(finished / "clips.gif") as moving:
        assert (still.n_frames, moving.n_frames) == (1, 8)


def test_the_page_is_there_while_the_demo_runs(tmp_path):
    """It loads itself anew, with what is finished, and no longer once all is."""
    write_finished(tmp_path, "image", prompts=4, seeds=1)
    demo = Demo()
    tasks = plan(DemoPaths(tmp_path), demo.modalities, 0, demo.recipes)
    (tmp_path / MARKER).write_text(
        json.dumps({"made_by": "python -m benchmarks demo", "settings": demo.settings, "done": {}})
    )
    folder, page = DemoFolder(tmp_path, demo.settings, resume=True), tmp_path / "index.html"
    reports = Reports(tmp_path, demo, tasks, folder, 0.0, 2)
    assert 'http-equiv="refresh"' in page.read_text() and 'id="images"' not in page.read_text()
    said: list[str] = []
    for one in (one for one in tasks if one.modality == "image"):
        reports.finished(one.name, 1.0, said.append)
    assert "images: 4 held-out prompts" in "".join(said)
    reports.progress(["video  ranking <b>"])
    text = page.read_text(encoding="utf-8")
    assert 'id="images"' in text and "ranking &lt;b&gt;" in text and 'http-equiv="refresh"' in text
    write_finished(tmp_path, "video", prompts=4, seeds=1)
    for one in (one for one in tasks if one.modality == "video"):
        reports.finished(one.name, 1.0, said.append)
    reports.write()
    assert 'http-equiv="refresh"' not in page.read_text(encoding="utf-8")


def test_an_unfavourable_result_is_told_and_is_no_failure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tests.benchmarks.demo_folder.NOISE", dict.fromkeys(ARMS, 0.3) | {"seppo": 0.5})
    write_finished(tmp_path, "image", prompts=4, seeds=2)
    report = write_reports(tmp_path, ("image",))
    verdict = report["meta"]["protocol"]["image"]["verdicts"][0]
    assert verdict["holds"] is False
    assert "same prompts: NO" in capsys.readouterr().out and report["image"]["seppo"]["win_rate"] == 0
    assert "video" not in report


def test_numbers_are_those_of_the_statistics(finished):
    result = load_results(DemoPaths(finished), "image", SHORT["image"], {})
    for arm in result.arms.values():
        assert arm.mean == mean_interval(arm.scores) and arm.scores.shape == (12, 3)
    assert [update for update, _ in result.arms["seppo"].curve] == [0, 30, 60]
    value, low, _ = paired_difference(result.arms["seppo"].scores, result.arms["base"].scores)
    assert f"{value:+.3f} ({low:+.3f} to" in str(result.verdicts[0])


def test_samples_stand_where_their_names_say(finished):
    """Every sample of the picture is found at its arm's row and its prompt's column, pixel by pixel."""
    result = load_results(DemoPaths(finished), "image", SHORT["image"], {})
    demo_picture.save_picture(result, finished / "again.png")
    with Image.open(finished / "again.png") as image:
        found = np.asarray(image)
    side, each = demo_picture.SIDE, demo_picture.SIDE + demo_picture.GAP
    row = each + demo_picture.LINE
    top = len(found) - len(result.arms) * row
    for number, arm in enumerate(result.arms.values()):
        for column, prompt in enumerate(demo_picture.shown(result)):
            x, y = demo_picture.LEFT + column * each, top + number * row
            times = side // arm.samples.shape[2]
            expected = arm.samples[prompt, 0].repeat(times, 0).repeat(times, 1)
            assert (found[y : y + side, x : x + side] == expected).all(), (arm.name, prompt)


def test_a_terminal_shows_the_mean_colours(finished):
    result = load_results(DemoPaths(finished), "image", SHORT["image"], {})
    flat = replace(result.arms["base"], samples=np.full_like(result.arms["base"].samples, (10, 20, 30)))
    lines = in_terminal(replace(result, arms={**result.arms, "base": flat})).splitlines()
    at = lines.index("  base")
    assert lines[0] == f"  1  {result.prompts[0]}" and len(lines) == at + len(IN_TERMINAL) * (1 + CELL // 2)
    assert lines[at + 1].count("\x1b[38;2;10;20;30m\x1b[48;2;10;20;30m▀") == at * CELL


def test_arms_judged_on_other_prompts_are_refused(tmp_path):
    write_finished(tmp_path, "image", prompts=3, seeds=2)
    scores = DemoPaths(tmp_path).scores("image")
    other = tmp_path / "other"
    write_finished(other, "image", prompts=4, seeds=2)
    name = "seppo/update-000060.safetensors"
    (scores / name).write_bytes((DemoPaths(other).scores("image") / name).read_bytes())
    with pytest.raises(ValueError, match="other prompts or seeds"):
        load_results(DemoPaths(tmp_path), "image", SHORT["image"], {})
