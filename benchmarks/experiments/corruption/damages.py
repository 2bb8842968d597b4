"""The files that are damaged, the ways in which they are, and the commands that are then given."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from seppo_core.io import remembered

COMMANDS = {
    "base": ("prepare", "train", "sample", "export"),
    "cache": ("prepare", "verify", "train"),
    "run": ("train", "status"),
    "checkpoints": ("train", "status", "sample", "export"),
}
"""By kind of file: the commands that read it."""
DRAWN_FROM = ("config.yaml", "model.json", "hashes.json")
"""Files of a run that `sample` and `export` read beside its checkpoints."""
UNSEEN = "flip, times and memory unchanged"
"""What a disk does that loses a bit by itself: only reading all again can show it."""


class Damage(NamedTuple):
    """One way of damaging a file."""

    name: str
    apply: Callable[[Path], None]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    # in place, as a disk would: the file stays the same one
    with path.open("r+b") as file:
        file.write(content)


def _flip_with_times_kept(path: Path) -> None:
    times = path.stat()
    _flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _flip_unseen(path: Path) -> None:
    digest = remembered.remembered_sha256(path)
    _flip_with_times_kept(path)
    # the memory is made to know this state of the file by its old content
    remembered._remember(remembered.memory_file(), remembered._key(path), digest)


def _zero(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(bytes(size))


DAMAGES = (
    Damage("flip, time kept", _flip_with_times_kept),
    Damage("flip", _flip),
    Damage("truncate", lambda path: os.truncate(path, path.stat().st_size // 2)),
    Damage("zero", _zero),
    Damage("delete", lambda path: path.unlink()),
)
WEIGHTS = (".safetensors", ".pt")


def kind_of(file: str) -> str:
    """The key of COMMANDS that a file belongs to."""
    first = file.split("/")[0]
    return "checkpoints" if file.startswith("run/checkpoints/") else first


def commands_for(file: str) -> tuple[str, ...]:
    """The commands that are given after `file` was damaged."""
    name = file.split("/")[-1]
    return COMMANDS["checkpoints" if file == f"run/{name}" and name in DRAWN_FROM else kind_of(file)]


def files_of(room: Path) -> list[str]:
    """One file or more of every kind of base, cache and run."""
    files = [str(path.relative_to(room)) for path in sorted(room.rglob("*")) if path.is_file()]
    newest = max((file for file in files if file.startswith("run/checkpoints/")), default="").split("/")[:3]
    return [
        file
        for file in files
        if file.startswith(("base/", "cache/", "run/"))
        and (not file.startswith("run/checkpoints/") or file.split("/")[:3] == newest)
    ]


def damages_for(room: Path, file: str, others: dict[str, Path]) -> Iterator[Damage]:
    """The ways of damaging `file` that change it; `others` are rooms whose file of that name takes its place."""
    content = (room / file).read_bytes()
    for damage in DAMAGES:
        if content or damage.name == "delete":
            yield damage
    for name, other in others.items():
        there = other / file
        if there.is_file() and there.read_bytes() != content:
            yield Damage(name, lambda path, there=there: path.write_bytes(there.read_bytes()))
    if file.endswith(WEIGHTS):
        yield Damage(UNSEEN, _flip_unseen)


def settle(room: Path, file: str) -> None:
    """Has the content of `file` remembered as whole, as it is once a command has read it."""
    path = room / file
    while time.time_ns() - path.stat().st_ctime_ns <= remembered.SETTLED_NS:
        time.sleep(0.01)
    remembered.remembered_sha256(path)
