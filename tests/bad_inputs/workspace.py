"""A folder with everything that a run needs, in which one thing is then spoilt."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file

from benchmarks.evaluation.cli import main as quality
from seppo_core.config.loader import resolved_yaml
from seppo_image.__main__ import main
from tests.workshop import Workshop, write_pictures

CONFIG = "config.yaml"
PROGRAMS = {"seppo-image": main, "quality": quality}
PICTURES = 8
PREPARE = ("prepare", CONFIG, "--data.cache", "new")


@dataclass(frozen=True)
class Case:
    """One bad input. `spoil` is called in the workspace and returns the command line; `around` is entered while the
    command runs."""

    group: str
    what: str
    spoil: Callable[[], list[str]]
    status: int = 2
    says: str = ""
    """A regular expression that must be found in the answer: the key, the value, the limit or the cure."""
    around: Callable[[], AbstractContextManager] = nullcontext
    needs: str = "cache"
    """cache: prepared data; run: also a run that stands after update 4."""
    reads: Callable[[], str] | None = None
    """Reads the answer if it is not the last line of the error stream."""
    program: str = "seppo-image"
    """The command line that is asked, one of PROGRAMS; its answers begin with this name."""

    @property
    def name(self) -> str:
        return f"{self.group}: {self.what}"


class Answer(NamedTuple):
    """What the command line said to a bad input."""

    argv: list[str]
    status: int
    text: str
    """What `reads` found, else the last line of the error stream."""
    errors: str
    """The whole error stream."""


def build(room: Path, workshop: Workshop) -> None:
    """Fills `room` with base, pictures and config, then prepares and trains there; all paths are relative."""
    (room / "base").symlink_to(workshop.base)
    write_pictures(room / "pictures", PICTURES)
    config = workshop.config(Path("run"))
    config = replace(
        config,
        model=replace(config.model, base="base"),
        data=replace(config.data, source="pictures", cache="cache", flip=False),
    )
    (room / CONFIG).write_text(resolved_yaml(config))
    with contextlib.chdir(room):
        assert main(["prepare", CONFIG]) == 0
        assert main(["train", CONFIG]) == 0
    shutil.rmtree(room / "run" / "checkpoints" / "update-000006")


def answer(case: Case, template: Path, room: Path) -> Answer:
    """Makes the workspace `room` after `template`, spoils it as `case` says, and asks the command line."""
    furnish(room, template, case.needs)
    with contextlib.chdir(room):
        argv = case.spoil()
        with contextlib.redirect_stderr(io.StringIO()) as stream, case.around():
            status = PROGRAMS[case.program](argv)
        errors = stream.getvalue()
        return Answer(argv, status, case.reads() if case.reads else errors.strip().splitlines()[-1], errors)


def furnish(room: Path, template: Path, needs: str) -> None:
    """Copies what a case may spoil."""
    room.mkdir()
    shutil.copy(template / CONFIG, room)
    (room / "base").symlink_to((template / "base").resolve())
    for name in ("pictures", "cache", *(["run"] if needs == "run" else [])):
        shutil.copytree(template / name, room / name)


def own_base() -> Path:
    """Replaces the link to the base by a copy, and returns it."""
    target = Path("base").resolve()
    Path("base").unlink()
    shutil.copytree(target, "base")
    return Path("base")


def edit(path: str, change: Callable[[str], str]) -> None:
    file = Path(path)
    file.write_text(change(file.read_text()))


def rows() -> list[dict]:
    return [json.loads(line) for line in Path("pictures/metadata.jsonl").read_text().splitlines()]


def write_rows(found: list[dict]) -> None:
    Path("pictures/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


def options(command: str, *more: str):
    """A command on the usual config with options, nothing spoilt."""
    return lambda: [command, CONFIG, *more]


def after(spoil, *argv: str):
    """Spoils, then the command line; without one, `train` on the usual config."""

    def act() -> list[str]:
        spoil()
        return list(argv) or ["train", CONFIG]

    return act


def rejected() -> str:
    return Path("new/rejected.jsonl").read_text().splitlines()[0]


def negate(file: Path) -> None:
    save_file({name: -tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})


def checkpoint(name: str) -> Path:
    return Path("run/checkpoints/update-000004") / name
