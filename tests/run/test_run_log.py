"""What a run leaves for people and for a resume: metrics, events, the terminal's lines, other loggers."""

import io
import json
import sys
import types

import pytest

from seppo_core.run.display import UpdateDisplay
from seppo_core.run.eta import TimeLeft, clock
from seppo_core.run.history import add_event, read_events, read_metrics
from seppo_core.run.logging import RunLog, WeightsAndBiases, require_wandb


def write(folder, updates, start=0, **options):
    with RunLog(folder, start, **options) as log:
        for update in updates:
            log.write(update, {"loss": update / 4, "grad_norm": float("inf") if update == 3 else 1.0})


def test_a_resume_drops_what_came_after_its_checkpoint(tmp_path):
    write(tmp_path, range(1, 6))
    write(tmp_path, range(4, 7), start=3)
    lines = read_metrics(tmp_path)
    assert [line["update"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[2]["grad_norm"] is None and lines[3]["loss"] == 1.0


@pytest.mark.parametrize("tail", [b'{"update": 4, "lo', b"\0\0\0\0\0\0\n", b'{"update": 4}\0\0\n', b"\xff\xfe\n"])
def test_what_a_crash_leaves_at_the_end_is_passed_over(tmp_path, tail):
    write(tmp_path, range(1, 4))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(tail)
    assert [line["update"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    write(tmp_path, [4], start=3)
    assert [line["update"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_events_outlive_a_broken_line(tmp_path):
    add_event(tmp_path, "started", update=0)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": 1, "eve')
    add_event(tmp_path, "stopped", why="SIGTERM")
    assert [(event["event"], event.get("why")) for event in read_events(tmp_path)] == [
        ("started", None),
        ("stopped", "SIGTERM"),
    ]


def test_sync_reaches_the_file(tmp_path):
    with RunLog(tmp_path, 0) as log:
        log.write(1, {"loss": 1.0})
        log.sync()
        assert len(read_metrics(tmp_path)) == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


METRICS = {"loss": 0.69314, "winner_error": 0.1234, "share_s_plus": 0.5, "seconds": 2.0, "skipped": 1, "lr": 1e-5}


def test_metrics_that_were_changed_or_lost_are_told(tmp_path, capsys):
    with RunLog(tmp_path, 0) as log:
        log.write(1, {"loss": 0.25})
        log.write(2, {"loss": 0.5})
        add_event(tmp_path, "checkpoint", update=2, metrics=log.sync())
    write(tmp_path, [3], start=2)
    assert "lines were changed or lost" not in capsys.readouterr().out
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    for spoilt in (whole.replace("0.25", "0.35"), whole.partition("\n")[2], ""):
        path.write_text(spoilt)
        write(tmp_path, [], start=2)
        assert "lines were changed or lost" in capsys.readouterr().out


def test_one_line_per_update_on_a_plain_terminal():
    stream = io.StringIO()
    display = UpdateDisplay(TimeLeft(10, 5, 0), 0, description="seppo on run", stream=stream)
    for update in (1, 2):
        display.show(update, METRICS)
    display.say("a warning")
    display.close()
    assert stream.getvalue().splitlines() == [
        "seppo on run: 0 of 10 updates are done",
        "update 1/10  loss 0.6931  winner_error 0.1234  share_s_plus 0.5  skipped 1  2.00 s  0:18 left",
        "update 2/10  loss 0.6931  winner_error 0.1234  share_s_plus 0.5  skipped 1  2.00 s  0:16 left",
        "a warning",
    ]


def test_a_live_bar_on_a_tty():
    stream = Terminal()
    display = UpdateDisplay(TimeLeft(4, 2, 0), 2, description="seppo on run", stream=stream)
    display.show(3, METRICS)
    # away while samples have a bar of their own, and back after them
    display.pause()
    display.say("a warning")
    assert display.bar is None
    display.show(4, METRICS)
    assert display.bar.n == 4
    display.close()
    text = stream.getvalue()
    assert "\r" in text and "4/4" in text and "loss=0.6931" in text and "a warning\n" in text
    assert "update 3/4" not in text


def test_processes_that_do_not_speak_say_nothing():
    for stream in (io.StringIO(), Terminal()):
        display = UpdateDisplay(TimeLeft(4, 2, 0), 0, description="d", visible=False, stream=stream)
        display.show(1, METRICS)
        display.say("a warning")
        display.close()
        assert stream.getvalue() == ""


def test_pace_counts_updates_and_samples():
    pace = TimeLeft(total=12, per_iteration=4, samples_per_iteration=100)
    assert pace.left(0) is None
    for seconds in (1.0, 1.0, 100.0):
        pace.update(seconds)
    # the median: an update with a preview in it is no measure
    assert pace.seconds_per_update == 1.0
    assert pace.left(3) == 9.0, "nothing is known of samples yet"
    pace.samples(50, 25.0)
    assert pace.left(3) == 9 + 2 * 50
    assert pace.left(4) == 8 + 2 * 50, "before the second iteration's samples"
    assert pace.left(4, missing=10) == 8 + 5 + 50, "while they are drawn"
    assert pace.left(12) == 0


def test_samples_that_come_again_are_not_drawn_again():
    pace = TimeLeft(total=12, per_iteration=4, samples_per_iteration=100, drawn=130)
    assert [pace.samples_of(range(i, i + 1)) for i in range(3)] == [100, 30, 0]
    pace.update(1.0)
    pace.samples(100, 50.0)
    assert pace.left(3) == 9 + 15
    assert pace.left(4, missing=10) == 8 + 5
    assert pace.left(8) == 4


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "0:05"), (65, "1:05"), (3723, "1:02:03"), (2 * 86400 + 3600, "2 d 1:00:00")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_wandb_is_asked_for_before_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("seppo_core.run.logging.find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install wandb"):
        require_wandb()


def test_wandb_gets_every_update_and_a_resume_its_run(tmp_path, monkeypatch):
    """A stand-in for the package, which is not part of the environment; LOG.md says how the real one was tried."""
    calls = []

    class Run:
        def log(self, metrics, step):
            calls.append((step, metrics["loss"]))

        def finish(self):
            calls.append("finish")

    module = types.ModuleType("wandb")
    module.init = lambda **options: calls.append(options) or Run()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr("seppo_core.run.logging.find_spec", lambda _: object())
    for start in (0, 2):
        project = WeightsAndBiases("toys", tmp_path, {"seed": 0})
        write(tmp_path, [start + 1, start + 2], start=start, wandb=project)
    first, second = calls[0], calls[4]
    assert first["project"] == "toys" and first["resume"] == "allow" and first["config"] == {"seed": 0}
    assert first["id"] == second["id"] and len(first["id"]) == 8
    assert calls[1:4] == [(1, 0.25), (2, 0.5), "finish"] and calls[5:] == [(3, 0.75), (4, 1.0), "finish"]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["update"] == 4
