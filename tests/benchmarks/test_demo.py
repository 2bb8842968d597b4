"""The demo's machinery: its plan, its folder, its processes, and what it reports."""

import io
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from benchmarks.__main__ import main as benchmarks_main
from benchmarks.experiments.toy import demo_arms
from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.demo import MARKER, Demo, DemoFolder, main
from benchmarks.experiments.toy.demo_arms import (
    ARMS,
    FULL,
    RECIPES,
    SHORT,
    DemoPaths,
    entries,
    load_configs,
    trained,
)
from benchmarks.experiments.toy.demo_plan import Task, plan
from benchmarks.experiments.toy.demo_runner import (
    Seen,
    State,
    choose,
    overall_line,
    run_tasks,
    task_line,
    time_left,
)
from benchmarks.experiments.toy.demo_watch import Step, watch_judge, watch_lines, watch_training
from benchmarks.experiments.toy.processes import Launcher, TaskFailed, processor_seconds
from seppo_image.config import ImageConfig

SETTINGS = {"modalities": ["image"], "seed": 0}


def task(name: str, code: str = "", needs: tuple[str, ...] = (), modality="image", weight: float = 1) -> Task:
    return Task(name, name, modality, ("-c", code), needs, weight)


def run(tasks: list[Task], folder: Path, done: dict | None = None, workers: int = 2) -> list[str]:
    """Names of the finished tasks in the order in which they finished."""
    order: list[str] = []
    run_tasks(
        tasks, done or {}, DemoPaths(folder).log, Launcher(ROOT, preload=()), workers=workers, stream=io.StringIO(),
        finished=lambda name, seconds, say: order.append(name),
    )  # fmt: skip
    return order


# the plan


@cache
def planned(full: bool = False, modalities=("image", "video"), seed: int = 0) -> dict[str, Task]:
    tasks = plan(DemoPaths(Path("runs/demo")), modalities, seed, FULL if full else RECIPES)
    return {one.name: one for one in tasks}


@pytest.mark.parametrize("full", [False, True])
def test_plan_needs_only_what_comes_before_and_covers_every_arm(full):
    known: set[str] = set()
    for one in planned(full).values():
        assert known.issuperset(one.needs), one.name
        known.add(one.name)
    for modality in ("image", "video"):
        arms = tuple(ARMS) if full else SHORT[modality]
        for kind, expected in (("train", trained(arms)), ("score", arms)):
            found = [name.rpartition("/")[2] for name in known if name.startswith(f"{modality}/{kind}/")]
            assert sorted(found) == sorted(expected)


def option(command: tuple[str, ...], name: str) -> str:
    """The value that counts: the last."""
    return command[len(command) - command[::-1].index(name)]


def test_arms_differ_in_nothing_but_data_and_method():
    """All that a user can set is the same on every command line but for the method, and the data of the control."""
    for modality in ("image", "video"):
        trainings = {arm: planned(full=True)[f"{modality}/train/{arm}"].command for arm in trained(ARMS)}
        shared = {arm: tuple(zip(command[4::2], command[5::2], strict=True)) for arm, command in trainings.items()}
        own = {"--run", "--data.source", "--data.cache", "--data.supervision"}
        of_all = [
            {pair for pair in pairs if pair[0] not in own and not pair[0].startswith("--method.")}
            for pairs in shared.values()
        ]
        assert all(one == of_all[0] for one in of_all)
        seppo, off = trainings["seppo"], trainings["anchor_off"]
        assert off[-2:] == ("--method.flipper", "off") and seppo[3] == off[3]
        assert option(seppo, "--method.beta") == option(off, "--method.beta")
        configs = load_configs(modality, tuple(ARMS))
        assert configs["seppo"].method.flipper == "indicator" and configs["seppo"].method.reference == "initial"
        assert configs["dpo"].method.spec.counterpart == "loser"


def test_arms_that_cannot_be_compared_are_refused(monkeypatch):
    def larger_sft(path, schema):
        config = load_config(path, schema)
        return replace(config, data=replace(config.data, height=64)) if path.stem.endswith("sft") else config

    load_config = demo_arms.load_config
    monkeypatch.setattr(demo_arms, "load_config", larger_sft)
    with pytest.raises(ValueError, match=r"share the size.*image_sft\.yaml"):
        load_configs("image", SHORT["image"])


def test_commands_are_those_a_user_types():
    tasks = planned(modalities=("image",), seed=3)
    command = tasks["image/train/seppo"].command
    assert command[:4] == ("-m", "seppo_image", "train", "configs/toy/image_seppo_indicator_initial.yaml")
    assert option(command, "--seed") == "3"
    ranking = tasks["image/rank"].command
    assert ranking[:3] == ("-m", "seppo_image", "rank")
    # what was ranked is what is trained on, and no sample of it can be drawn again with the judge's seeds of a prompt
    assert option(ranking, "--out") == option(command, "--data.source") == "runs/demo/data/image/winners"
    assert option(tasks["image/train/continued"].command, "--data.source") == "runs/demo/data/image/continued"
    steps = {option(ranking, "--steps"), option(command, "--reference_samples.steps")}
    assert steps == {option(tasks["image/score/seppo"].command, "--steps")}


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
    out, settings = tmp_path / "demo", Demo().settings
    with pytest.raises(ValueError, match="no demo to resume"):
        DemoFolder(out, settings, resume=True)
    DemoFolder(out, settings).finish("data", 1.23)
    assert DemoFolder(out, settings, resume=True).done == {"data": 1.2}
    with pytest.raises(ValueError, match=r"begun with seed 0, not seed 1;"):
        DemoFolder(out, Demo(seed=1).settings, resume=True)
    with pytest.raises(ValueError, match="recipes"):
        DemoFolder(out, Demo(recipes=FULL).settings, resume=True)


def test_all_that_is_written_is_cleared():
    paths, known = DemoPaths(Path()), [Path(name) for name in entries()]
    for one in planned(full=True).values():
        where = [Path(word).relative_to("runs/demo") for word in one.command if word.startswith("runs/demo/")]
        assert all(any(path.is_relative_to(entry) for entry in known) for path in where), one.name
    assert paths.picture("image") in known and paths.picture("video") in known


# the processes


def test_tasks_run_after_those_they_need_and_not_again(tmp_path):
    tasks = [task("a"), task("b", needs=("a",)), task("c", needs=("b",)), task("d")]
    assert run(tasks, tmp_path, {"d": 1.0}, workers=3) == ["a", "b", "c"]


def test_images_come_first_and_clips_get_what_images_leave():
    train, score = task("train"), task("score", needs=("train",))
    ranking = task("rank", modality="video")
    assert choose([train, score, ranking], [], set()) is train
    # the score follows on the training's worker; the other one has nothing else to do
    assert choose([score, ranking], [train], set()) is ranking
    # here a training will want it soon
    prepare, later = task("prepare"), task("later", needs=("prepare2",))
    assert choose([later, ranking], [prepare], set()) is None
    assert choose([later, ranking], [], {"prepare2"}) is later
    assert choose([ranking], [score], set()) is ranking
    assert choose([], [], set()) is None


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


# what is seen while it runs


@pytest.mark.skipif(sys.platform != "linux", reason="no other system counts the processes that ended")
def test_processor_time_is_that_of_the_commands_too(tmp_path):
    launcher, used, before = Launcher(ROOT, ()), 0.3, time.process_time()
    began = processor_seconds()
    work = f"import time\nwhile time.process_time() < {used}: pass"
    launcher.start(("-c", work), tmp_path / "log").join()
    # in hundredths of a second
    assert processor_seconds() - began - (time.process_time() - before) > used - 0.05


def test_training_is_followed_by_its_files(tmp_path):
    watch = watch_training(tmp_path, ImageConfig)
    assert watch() is None
    source = (ROOT / ARMS["seppo"].path("image")).read_text(encoding="utf-8")
    (tmp_path / "config.yaml").write_text(source, encoding="utf-8")
    loop, chunk = (
        load_configs("image", ("seppo",))["seppo"].loop,
        load_configs("image", ("seppo",))["seppo"].reference_samples.batch_size,
    )
    total = loop.iterations * loop.updates_per_iteration
    assert watch().share == 0
    buffer = tmp_path / "buffer" / f"iteration-0000-by-{chunk}"
    buffer.mkdir(parents=True)
    (buffer / "samples-000000000.safetensors").write_text("")
    filling = watch()
    assert f"reference sample {chunk}/" in filling.note and 0 < filling.share < 0.6 / loop.iterations
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
    ranked = watch_lines(tmp_path / "samples.jsonl", 4)
    assert ranked() is None
    (tmp_path / "samples.jsonl").write_text("{}\n{")
    assert ranked() == Step("sample", 1, 4, 0.25)


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
