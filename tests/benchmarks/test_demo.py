"""The demo's machinery: its plan, its folder, its processes, and what it reports."""

import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import main as benchmarks_main
from benchmarks.experiments.toy import demo_plan
from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.demo import MARKER, DemoFolder, main, write_reports
from benchmarks.experiments.toy.demo_plan import (
    ARMS,
    TRAINED,
    DemoPaths,
    Scale,
    Step,
    Task,
    load_configs,
    plan,
    watch_judge,
    watch_training,
)
from benchmarks.experiments.toy.demo_runner import Seen, State, overall_line, run_tasks, task_line, time_left
from benchmarks.experiments.toy.plan import arm_config
from benchmarks.experiments.toy.processes import Launcher, TaskFailed
from seppo_core.report.statistics import mean_interval
from seppo_image.config import ImageConfig
from tests.benchmarks.demo_folder import write_finished

SETTINGS = {"modalities": ["image"], "seed": 0}


def task(name: str, code: str = "", needs: tuple[str, ...] = (), modality="image", weight: float = 1) -> Task:
    return Task(name, name, modality, ("-c", code), needs, weight)


def run(tasks: list[Task], folder: Path, done: dict | None = None, workers: int = 2) -> list[str]:
    """Names of the finished tasks in the order in which they finished."""
    order: list[str] = []
    run_tasks(
        tasks, done or {}, DemoPaths(folder).log, Launcher(ROOT, preload=()), workers=workers, stream=io.StringIO(),
        finished=lambda name, seconds: order.append(name),
    )  # fmt: skip
    return order


# the plan


def test_plan_needs_only_what_comes_before_and_covers_every_arm():
    tasks = plan(DemoPaths(Path("runs/demo")), ("image", "video"), 0, Scale())
    known: set[str] = set()
    for one in tasks:
        assert known.issuperset(one.needs), one.name
        known.add(one.name)
    assert len(known) == len(tasks)
    for modality in ("image", "video"):
        judged = [
            arm for one in tasks if one.name.startswith(f"{modality}/score") for arm in one.command if arm in ARMS
        ]
        assert sorted(judged) == sorted(ARMS)


@pytest.mark.parametrize("modality", ["image", "video"])
def test_arms_are_trained_from_one_base_for_as_many_updates(modality):
    configs = load_configs(modality)
    assert set(configs) == set(TRAINED) == set(ARMS) - {"base"}
    assert [configs[arm].method.name for arm in TRAINED] == ["sft", "sft", "seppo", "seppo"]
    assert configs["seppo"].method.flipper == "sign"
    assert configs["seppo_anchor_off"].method.flipper == "off"
    assert len({(c.model.base, c.loop.iterations * c.loop.updates_per_iteration) for c in configs.values()}) == 1


def test_arms_that_cannot_be_compared_are_refused(monkeypatch):
    def longer_sft(modality, arm):
        config = arm_config(modality, arm)
        return replace(
            config,
            loop=replace(config.loop, updates_per_iteration=config.loop.updates_per_iteration + (arm.name == "SFT")),
        )

    monkeypatch.setattr(demo_plan, "arm_config", longer_sft)
    with pytest.raises(ValueError, match=r"number of updates.*image_sft\.yaml"):
        load_configs("image")


def test_commands_are_those_a_user_types():
    tasks = {one.name: one for one in plan(DemoPaths(Path("runs/demo")), ("image",), 3, Scale())}
    command = tasks["image/train/seppo"].command
    assert command[:4] == ("-m", "seppo_image", "train", "configs/toy/image_seppo.yaml")
    assert ("--seed", "3") == command[command.index("--seed") :][:2]
    assert "runs/demo/data/image/winners" in command
    assert "runs/demo/data/image/continued" in tasks["image/train/continued"].command


# the folder


def test_a_folder_of_the_demo_is_begun_afresh(tmp_path):
    out = tmp_path / "demo"
    DemoFolder(out, SETTINGS).finish("data", 1.0)
    (out / "data").mkdir()
    (out / "data" / "old.png").write_text("x")
    (out / "image" / "sft").mkdir(parents=True)
    assert DemoFolder(out, SETTINGS).done == {}
    assert [path.name for path in out.iterdir()] == [MARKER]


def test_what_the_demo_did_not_make_stays(tmp_path):
    out = tmp_path / "demo"
    DemoFolder(out, SETTINGS)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    kept = [out / "notes.txt", out / "image" / "my_run" / "weights", elsewhere / "file"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (out / "cache").symlink_to(elsewhere)
    DemoFolder(out, SETTINGS)
    assert all(path.read_text() == "mine" for path in kept)
    assert not (out / "cache").exists()


@pytest.mark.parametrize("content", [None, "{}", '{"made_by": "someone"}', "not json", "[1]"])
def test_a_folder_of_others_is_refused_and_untouched(tmp_path, content):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("x")
    if content is not None:
        (tmp_path / MARKER).write_text(content)
    with pytest.raises(FileExistsError, match=r"not made by the demo.*--out"):
        DemoFolder(tmp_path, SETTINGS)
    assert (tmp_path / "data" / "precious").read_text() == "x"


def test_an_empty_folder_is_taken_and_a_file_refused(tmp_path):
    DemoFolder(tmp_path, SETTINGS)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="not made by the demo"):
        DemoFolder(tmp_path / "file", SETTINGS)


def test_resume_keeps_what_is_done_and_wants_the_same_settings(tmp_path):
    out = tmp_path / "demo"
    with pytest.raises(ValueError, match="no demo to resume"):
        DemoFolder(out, SETTINGS, resume=True)
    DemoFolder(out, SETTINGS).finish("data", 1.23)
    assert DemoFolder(out, SETTINGS, resume=True).done == {"data": 1.2}
    with pytest.raises(ValueError, match=r"seed 0, not .*seed 1"):
        DemoFolder(out, {**SETTINGS, "seed": 1}, resume=True)


# the processes


def test_tasks_run_after_those_they_need_and_not_again(tmp_path):
    tasks = [task("a"), task("b", needs=("a",)), task("c", needs=("b",)), task("d")]
    assert run(tasks, tmp_path, {"d": 1.0}, workers=3) == ["a", "b", "c"]


def test_both_modalities_run_at_once(tmp_path):
    """Each waits for the other's file: one after the other they would never end."""
    code = """
import pathlib, sys, time
mine, other = (pathlib.Path(r"{0}") / name for name in ("{1}", "{2}"))
mine.write_text("here")
begun = time.monotonic()
while not other.exists():
    time.monotonic() - begun < 90 or sys.exit("alone")
    time.sleep(0.02)
"""
    tasks = [
        task("image", code.format(tmp_path, "i", "v")),
        task("image2"),
        task("video", code.format(tmp_path, "v", "i"), modality="video"),
    ]
    assert set(run(tasks, tmp_path)) == {"image", "image2", "video"}


def test_a_failure_shows_the_end_of_the_log_and_ends_the_others(tmp_path):
    alive = tmp_path / "alive"
    endless = (
        f"import pathlib, time\nwhile True: pathlib.Path(r'{alive}').write_text(str(time.time())); time.sleep(.02)"
    )
    bad = f"import pathlib, sys, time\nwhile not pathlib.Path(r'{alive}').exists(): time.sleep(.02)\nsys.exit('reason')"
    with pytest.raises(TaskFailed, match=r"(?s)bad ended with status 1.*reason.*bad\.log"):
        run([task("bad", bad), task("endless", endless)], tmp_path)
    last = alive.read_text()
    time.sleep(0.2)
    assert alive.read_text() == last


def test_a_task_clears_what_it_cannot_go_on_from(tmp_path):
    (tmp_path / "half").write_text("x")
    clears = Task("a", "a", None, ("-c", ""), clear=(tmp_path / "half").unlink)
    run([clears], tmp_path)
    assert not (tmp_path / "half").exists()


# what is seen while it runs


def test_training_is_followed_by_its_files(tmp_path):
    watch = watch_training(tmp_path, ImageConfig)
    assert watch() is None
    source = (ROOT / "configs" / "toy" / "image_seppo.yaml").read_text(encoding="utf-8")
    (tmp_path / "config.yaml").write_text(source, encoding="utf-8")
    loop = load_configs("image")["seppo"].loop
    total = loop.iterations * loop.updates_per_iteration
    assert watch().share == 0
    buffer = tmp_path / "buffer" / "iteration-0000-by-64"
    buffer.mkdir(parents=True)
    (buffer / "samples-000000000.safetensors").write_text("")
    filling = watch()
    assert "reference sample" in filling.note and 0 < filling.share < 0.6 / loop.iterations
    (tmp_path / "metrics.jsonl").write_text("{}\n" * loop.updates_per_iteration)
    assert watch() == Step(
        "update", loop.updates_per_iteration, total, pytest.approx(1 / loop.iterations), watch().note
    )
    (tmp_path / "metrics.jsonl").write_text("{}\n" * total + '{"half')
    assert watch() == Step("update", total, total, 1.0)


def test_the_judge_is_followed_by_its_counts(tmp_path):
    watch = watch_judge(tmp_path / "count")
    assert watch() is None
    (tmp_path / "count").write_text("[3")
    assert watch() is None
    (tmp_path / "count").write_text("[3, 12]")
    assert watch() == Step("sample", 3, 12, 0.25)


def test_status_lines_say_stage_count_rate_and_time_left():
    one = Task("t", "SePPO", "image", (), weight=10)
    assert "SePPO: running for 0:10" in task_line(Seen(one, 10, None, None))
    item = Seen(one, 10, Step("update", 20, 100, 0.2), Step("update", 60, 100, 0.6))
    # 40 updates and 0.4 of the way in 10 s; 0.4 are left
    assert task_line(item) == "image  SePPO: update 60/100 (60 %), 4.0 updates/s, 0:10 left"
    # a weight of 6 is done in 10 s beside one of 10 in 6 s; one of 20 waits and 4 are left, for two workers
    assert time_left([task("w", weight=20)], [item], 10, 6, 2) == pytest.approx(12 * 16 / 16)
    assert time_left([], [item], 0, 0, 2) is None
    assert overall_line(State([item], 3, 9, 65, 70.2)) == "demo   3 of 9 steps done, 1:05 so far, about 1:10 left"


# what comes out


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    for modality in ("image", "video"):
        write_finished(out, modality)
    return out


def test_report_has_every_arm_and_agrees_with_the_scores(finished, capsys):
    done = {"image/train/seppo": 12.5, "data": 3.0}
    report = write_reports(finished, ("image", "video"), 0, done, time.monotonic(), 2)
    assert json.loads((finished / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(report))
    for modality in ("image", "video"):
        assert set(report[modality]) == {"base", "continued", "sft", "seppo", "seppo_anchor_off"}
        for arm in report[modality].values():
            assert arm["low"] <= arm["mean"] <= arm["high"] and 0 <= arm["win_rate"] <= 1
        assert report[modality]["base"]["win_rate"] == 0.5
    assert report["image"]["seppo"]["seconds"] == 12.5
    told = {v["text"].split(",")[0]: v["holds"] for v in report["meta"]["protocol"]["image"]["verdicts"]}
    assert told["SePPO above base"] is True and told["SePPO above continued"] is True
    assert report["meta"]["protocol"]["image"]["set_scores"]["winners"] == 0.75
    printed = capsys.readouterr().out
    assert "images: 12 held-out prompts x 3 seeds" in printed and "SePPO above base, intervals apart" in printed


def test_an_unfavourable_result_is_told_and_is_no_failure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tests.benchmarks.demo_folder.NOISE", dict.fromkeys(ARMS, 0.3) | {"seppo": 0.5})
    write_finished(tmp_path, "image", prompts=4, seeds=2)
    report = write_reports(tmp_path, ("image",), 0, {}, time.monotonic(), 2)
    verdict = report["meta"]["protocol"]["image"]["verdicts"][0]
    assert verdict["holds"] is False
    assert "intervals apart" in capsys.readouterr().out and report["image"]["seppo"]["win_rate"] == 0
    assert "video" not in report


def test_mean_is_over_prompts_with_the_interval_of_the_statistics(finished):
    from benchmarks.experiments.toy.demo_results import load_results

    result = load_results(DemoPaths(finished), "image", {})
    for arm in result.arms.values():
        assert arm.mean == mean_interval(arm.scores) and arm.scores.shape == (12, 3)
    assert [update for update, _ in result.arms["seppo"].curve] == [0, 30, 60]


def test_arms_judged_on_other_prompts_are_refused(tmp_path):
    from benchmarks.experiments.toy.demo_results import load_results

    write_finished(tmp_path, "image", prompts=3, seeds=2)
    scores = DemoPaths(tmp_path).scores("image")
    other = tmp_path / "other"
    write_finished(other, "image", prompts=4, seeds=2)
    name = "seppo/update-000060.safetensors"
    (scores / name).write_bytes((DemoPaths(other).scores("image") / name).read_bytes())
    with pytest.raises(ValueError, match="other prompts or seeds"):
        load_results(DemoPaths(tmp_path), "image", {})


# the command line


def test_commands_are_listed_without_importing_torch():
    code = "import sys; from benchmarks.__main__ import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "demo" in done.stdout


def test_wrong_calls_are_told_in_one_line(tmp_path, capsys):
    assert benchmarks_main(["dmeo"]) == 2
    assert "dmeo is not a command" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert main(["--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["--out", str(tmp_path / "new"), "--resume"]) == 1
    assert "no demo to resume" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--workers", "0"])
