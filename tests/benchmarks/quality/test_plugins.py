"""Judges as processes: real subprocesses that answer, die, hang, mumble and lie."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.evaluation.analysis import analyse
from benchmarks.evaluation.generate import generate
from benchmarks.evaluation.metrics.catalogue import METRICS
from benchmarks.evaluation.report.text import markdown
from benchmarks.evaluation.results import CHANGED
from benchmarks.evaluation.score import LOG, score_with_plugin
from seppo_core.judging.external import pipes
from seppo_core.judging.external.process import read_answer
from seppo_core.judging.external.spec import Plugin, describe, parse_plugins
from tests.benchmarks.quality.fake import FakeSampler, open_plan, prompt_set

SCRIPT = Path(__file__).with_name("judge_script.py")


def plugin(*options: str, seconds: float = 30) -> Plugin:
    return Plugin("light", (sys.executable, str(SCRIPT), *options), seconds, seconds)


@pytest.fixture
def plan(tmp_path):
    """Twelve samples of one model, drawn."""
    folder, plan = open_plan(tmp_path, ["base"])
    draw = FakeSampler()
    generate(folder.samples(plan.models[0]), prompt_set().prompts, plan.protocol, lambda: draw, {})
    return folder, plan


def judge(plan, *options: str, seconds: float = 30, **more) -> int:
    one = plugin(*options, seconds=seconds)
    return score_with_plugin(*plan, one, describe(one, "image"), **more)


def failures(plan) -> dict[str, int]:
    return analyse(plan[0])[0]["scores"][0]["not_scored"]


def test_every_sample_is_judged_and_reported(plan):
    assert judge(plan, "--mumble") == 12
    report, results = analyse(plan[0])
    assert [column["name"] for column in report["columns"]] == ["light_light", "light_length"]
    assert [column["better"] for column in report["columns"]] == [1, -1]
    model = results.models[0]
    for row, files in enumerate(model.files):
        for seed, file in enumerate(files):
            content = Path(str(file)).read_bytes()
            assert results.table("base", "light_light")[row, seed] == sum(content) / len(content)
    assert (results.table("base", "light_length") == len("prompt 0")).all()
    assert "light_length ↓" in markdown(report) and failures(plan) == {}


def test_what_has_a_score_is_not_asked_again(plan, tmp_path):
    asked = tmp_path / "asked"
    # the option is part of the fingerprint, the file's content is not
    assert judge(plan, "--count", str(asked)) == 12
    assert judge(plan, "--count", str(asked)) == 0
    assert len(asked.read_text(encoding="utf-8").splitlines()) == 12
    # another command is another judge
    assert judge(plan) == 12


@pytest.mark.parametrize("mode", [[], pytest.param(["--all-at-once"], marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("option", "reason"),
    [("--die-at", "the judge ended with status 3: model fell over"), ("--kill-at", "the judge ended with signal 9")],
)
def test_a_crash_midway_costs_one_sample(plan, option, reason, mode):
    judge(plan, option, "prompt 3", *mode)
    found = failures(plan)
    assert sum(found.values()) == 2 and all(text.startswith(reason) for text in found)
    assert analyse(plan[0])[0]["scores"][0]["prompts"] == 5


@pytest.mark.parametrize(
    "option", ["--hang-at", *(pytest.param(o, marks=pytest.mark.slow) for o in ("--chatter-at", "--endless-line-at"))]
)
def test_a_sample_that_hangs_is_given_up(plan, option):
    judge(plan, option, "prompt 4", seconds=2)
    found = failures(plan)
    assert sum(found.values()) == 2 and all(text.startswith("no answer in") for text in found)
    assert analyse(plan[0])[0]["scores"][0]["prompts"] == 5


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--nan-at", "light is nan, no finite number"),
        ("--huge-at", f"light is 1{'0' * 39}, no finite number"),
        ("--skip-at", "the judge ended without a line for it"),
        ("--garbage-at", "the judge ended without a line for it"),
        ("--broken-at", "cannot decode"),
        ("--half-at", "the judge gave no length"),
    ],
)
def test_bad_answers_are_kept_with_their_reason(plan, option, reason):
    judge(plan, option, "prompt 2")
    assert failures(plan) == {reason: 2}
    # the reason stands until somebody asks for another try
    assert judge(plan, option, "prompt 2") == 0
    assert judge(plan, option, "prompt 2", retry=True) == 2


def test_a_judge_that_answers_nothing_ends_the_run(plan):
    with pytest.raises(RuntimeError, match="plug-in light answers nothing: the judge ended with status 3"):
        judge(plan, "--die-at", "prompt")


def test_words_without_end_fill_no_disk(plan, monkeypatch, tmp_path):
    monkeypatch.setattr(pipes, "LOG_MOST", 100_000)
    judge(plan, "--groan-at", "prompt 4")
    (log,) = plan[0].folder.parent.rglob(LOG)
    assert failures(plan) == {} and 100_000 < log.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ('{"score": {"scale": 1e999}}', "scale of column score is inf"),
        ('{"score": {"digits": "x"}}', "digits of column"),
    ],
)
def test_facts_of_a_column_that_are_no_numbers_are_named(columns, told):
    text = f"""print('{{"name": "x", "kinds": ["image"], "columns": {columns}}}')"""
    with pytest.raises(ValueError, match=told):
        describe(Plugin("light", (sys.executable, "-c", text)), "image")


def test_a_description_without_end_is_ended(monkeypatch):
    monkeypatch.setattr(pipes, "PRINTED_MOST", 1_000_000)
    with pytest.raises(FileNotFoundError, match="does not answer --describe: it prints more than 1 MB"):
        describe(plugin("--chatter"), "image")


def test_a_changed_file_is_not_judged(plan):
    folder, one = plan
    store = folder.samples(one.models[0])
    first, second = list(store.records.values())[:2]
    (store.folder / first.file).write_bytes((store.folder / second.file).read_bytes())
    assert judge(plan) == 11
    assert analyse(folder)[0]["models"][0]["failures"] == {CHANGED: 1}


def test_what_a_judge_cannot_do_is_said_first():
    with pytest.raises(FileNotFoundError, match="weights are not there"):
        describe(plugin("--missing"), "image")
    with pytest.raises(FileNotFoundError, match="no-such-program is not a program here"):
        describe(Plugin("light", ("no-such-program",)), "image")
    with pytest.raises(ValueError, match="one line of JSON with name, kinds"):
        describe(Plugin("light", (sys.executable, "-c", "print('hello')")), "image")
    text = "import json; print(json.dumps({'name': 'x', 'kinds': ['video'], 'columns': {'score': {}}}))"
    only_clips = Plugin("light", (sys.executable, "-c", text))
    assert [column.name for column in describe(only_clips, "video").columns] == ["light"]
    with pytest.raises(ValueError, match="judges video, not image"):
        describe(only_clips, "image")


def test_the_fingerprint_follows_script_and_options_not_the_interpreter(tmp_path):
    copy = tmp_path / "moved.py"
    copy.write_bytes(SCRIPT.read_bytes())
    here = describe(plugin(), "image").fingerprint
    assert describe(Plugin("light", (sys.executable, str(copy))), "image").fingerprint == here
    copy.write_bytes(SCRIPT.read_bytes() + b"\n# changed\n")
    assert describe(Plugin("light", (sys.executable, str(copy))), "image").fingerprint != here
    assert describe(plugin("--mumble"), "image").fingerprint != here


@pytest.mark.parametrize(
    "line", ["", "not json", "[1]", '{"scores": {}}', '{"id": 3, "scores": {}}', "[" * 100_000, '{"id": "a", "scores"']
)
def test_lines_that_are_no_answer(line):
    assert read_answer(line, {"x": "x"}) is None


@pytest.mark.parametrize("value", ["1" + "0" * 400, "true", '"1"', "null", "Infinity", "[1]"])
def test_values_that_are_no_number(value):
    name, score = read_answer(f'{{"id": "a", "scores": {{"x": {value}}}}}', {"x": "x"})
    assert name == "a" and "no finite number" in score.reason


def test_plugins_from_the_command_line_and_from_a_file(tmp_path):
    path = tmp_path / "judges.yaml"
    path.write_text('videoscore: python -m judge "a b"\nhpsv3: {command: [python, x], answer_seconds: 5}\n')
    found = parse_plugins(["light=python -m light"], path)
    assert [one.command for one in found] == [
        ("python", "-m", "judge", "a b"),
        ("python", "x"),
        ("python", "-m", "light"),
    ]
    assert found[1].answer_seconds == 5 and found[0].answer_seconds == 600
    for given, message in (
        (["light"], "should be NAME=COMMAND"),
        (["pickscore_cos=python"], "pickscore_cos"),
        (["psnr=python"], "psnr"),
        (["light="], "has no command"),
        (["a=b", "a=c"], "named twice"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_plugins(given, taken=METRICS)
    path.write_text(json.dumps({"x": {"command": "y", "time": 3}}))
    with pytest.raises(ValueError, match="takes answer_seconds, command, start_seconds"):
        parse_plugins([], path)
