"""A folder with everything in it that a run needs, to spoil one thing of."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from seppo_core.config.loader import resolved_yaml
from seppo_image.__main__ import main
from tests.workshop import Workshop, write_pictures

CONFIG = "config.yaml"
PICTURES = 8


@dataclass(frozen=True)
class Case:
    """One bad input. `spoil` is called in the room and returns the command line, without the config where it is the
    usual one; `around` is entered while the command runs."""

    group: str
    what: str
    spoil: Callable[[], list[str]]
    status: int = 2
    says: str = ""
    """What must be found in the answer, as a regular expression."""
    around: Callable[[], AbstractContextManager] = nullcontext
    needs: str = "cache"
    """cache: prepared data; run: also a run that stands after update 4."""
    reads: Callable[[], str] | None = None
    """Where the answer is not the last line of the error stream but lies in a file."""


def build(room: Path, workshop: Workshop) -> None:
    """Fills `room`: base, pictures, config; then prepares and trains there, with the paths of `room` relative."""
    (room / "base").symlink_to(workshop.base)
    write_pictures(room / "pictures", PICTURES)
    config = workshop.config(Path("run"))
    config = replace(
        config,
        model=replace(config.model, base="base"),
        data=replace(config.data, source="pictures", cache="cache", flip=False),
    )
    (room / CONFIG).write_text(resolved_yaml(config))
    assert main(["prepare", CONFIG]) == 0
    assert main(["train", CONFIG]) == 0
    shutil.rmtree(room / "run" / "checkpoints" / "update-000006")


def furnish(room: Path, template: Path, needs: str) -> None:
    """Copies of what a case may spoil."""
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


def normal(text: str, room: Path) -> str:
    """What does not change from one machine, or run, to the next."""
    text = text.replace(f"{room}/", "").replace(str(room), ".")
    text = re.sub(r"process \d+ on \S+?([);])", r"process N on HOST\1", text)
    text = re.sub(r"\b(?=[0-9]*[a-f])[0-9a-f]{8,}\b", "HASH", text)
    text = re.sub(r"\(\d+ MB are free\)", "(N MB are free)", text)
    text = re.sub(r"seppo \d+\.\d+\.\S+ -> \d+\.\d+\.[^)\s]+", "seppo OLD -> NEW", text)
    return " ".join(text.split())
