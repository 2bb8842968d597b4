"""The corruption campaign: what it tries, how it judges, and a small part of it."""

import json

import pytest

from benchmarks.__main__ import COMMANDS
from benchmarks.experiments.corruption.main import main
from benchmarks.experiments.corruption.outcomes import EQUAL, REFUSED, SILENT, TOLD, TRACEBACK, judge
from benchmarks.experiments.corruption.room import Answer

USUAL = (Answer(0, ["continuing run after update 5 of 9"]), {"weights": "a"})


@pytest.mark.parametrize(
    ("status", "lines", "weights", "kind"),
    [
        (0, ["continuing run after update 4 of 9"], "a", EQUAL),
        (0, ["continuing run after update 4 of 9"], "b", SILENT),
        (0, ["pool/snapshot-0000.safetensors was damaged and is written anew"], "a", TOLD),
        (0, ["samples for iteration 2: 50%| 3/6"], "b", SILENT),
        (2, ["seppo-image: checkpoint update-000005 is damaged"], "", REFUSED),
        (2, ["Traceback (most recent call last):", "seppo-image: x"], "", TRACEBACK),
        (1, ["KeyError: 'update'"], "", TRACEBACK),
        (-9, [], "", TRACEBACK),
    ],
)
def test_outcomes_are_told_apart(status, lines, weights, kind):
    found = judge("run/metrics.jsonl", "flip", "train", Answer(status, lines), {"weights": weights}, USUAL)
    assert found.kind == kind


@pytest.mark.slow
def test_a_small_part_of_it(tmp_path, monkeypatch, capsys):
    # the memory of the tests stays theirs
    monkeypatch.setenv("SEPPO_CACHE_HOME", str(tmp_path))
    assert COMMANDS["corruption"].module == main.__module__
    only = ["--only", "snapshot-0000", "cache/manifest.json", "--damages", "truncate"]
    assert main(["--out", str(tmp_path / "out"), *only]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["tried"] == 5 and not report["wrong"]
    assert {case["kind"] for case in report["cases"]} >= {EQUAL, TOLD, REFUSED}
    assert "| run/pool |" in capsys.readouterr().out
    (tmp_path / "out" / "thesis.txt").touch()
    assert main(["--out", str(tmp_path / "out")]) == 1
