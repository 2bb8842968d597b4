"""`status` once, again and again, and as a page."""

import io
import json

from seppo_core.cli.watch import watch
from seppo_core.io.locks import FolderLock
from seppo_image.__main__ import main
from tests.report.run_folder import write_run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines that are left when up, and clear to the end, are obeyed."""
        lines = [""]
        for part in self.getvalue().replace("\x1b[F", "\0").replace("\x1b[J", "\1").splitlines(keepends=True):
            while part.startswith("\0"):
                del lines[-2:]
                lines.append("")
                part = part[1:]
            text = part.replace("\1", "")
            lines[-1] += text.rstrip("\n")
            if text.endswith("\n"):
                lines.append("")
        return lines[:-1]


def goes_on(run, lock):
    """A sleep in which a run does an update, and ends with its twelfth."""

    def sleep(seconds: float) -> None:
        assert seconds == 7
        metrics = run / "metrics.jsonl"
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        with metrics.open("a") as file:
            file.write(json.dumps(lines[-1] | {"update": lines[-1]["update"] + 1}) + "\n")
        if len(lines) + 1 == 12:
            lock.release()

    return sleep


def test_a_terminal_is_redrawn_until_the_run_ends(tmp_path):
    run, stream = write_run(tmp_path / "run"), Terminal()
    with FolderLock(run) as lock:
        watch(run, 7, stream, goes_on(run, lock), width=60)
    screen = stream.screen()
    assert screen[0].startswith("run  ") and max(map(len, screen)) <= 59
    assert [line for line in screen if line.startswith("done")] == [
        "done        update 12 of 12 (100%), iteration 3 of 3"
    ]
    assert sum(line.startswith("state ") for line in screen) == 1


def test_elsewhere_a_line_tells_what_is_new(tmp_path):
    run, stream = write_run(tmp_path / "run"), io.StringIO()
    with FolderLock(run) as lock:
        watch(run, 7, stream, goes_on(run, lock))
    lines = stream.getvalue().splitlines()
    assert lines[:4] == [f"update {n} of 12, 0:{3 * (12 - n):02} left" for n in (8, 9, 10, 11)]
    assert "\x1b" not in stream.getvalue() and lines[4].startswith("run  ")


def test_the_command(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    assert main(["status", str(run), "--watch"]) == 0
    assert "state       killed" in capsys.readouterr().out, "one that does not run is told once"
    assert main(["status", str(run), "--page"]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert main(["status", str(run)]) == 0
    assert f"page        {run / 'report.html'}" in capsys.readouterr().out
    for words, told in (
        (["--watch", "0"], "--watch 0 should be seconds from 0.1"),
        (["--wach"], "takes one run folder, --watch and --page, not --wach"),
    ):
        assert main(["status", str(run), *words]) == 2
        assert told in capsys.readouterr().err
