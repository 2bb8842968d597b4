"""A kill at every file operation in turn, without a process to kill: from one operation on, all in a folder fail.

What is written with other means than Python's, as safetensors does, has the operations around it as its moments.
"""

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import pytest

from seppo_core.training.trainer import Trainer

CHANGING = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "link", "truncate", "ftruncate", "fsync")


class Killed(BaseException):
    """Stands for a process that is gone: nothing in the product catches it."""


@contextmanager
def killed_before_update(number: int) -> Iterator[None]:
    """What is trained within it is killed before that update; a failure if it ends without coming there."""
    update = Trainer._update

    def dying(self, at, batches):
        if at == number:
            raise Killed
        return update(self, at, batches)

    with mock.patch.object(Trainer, "_update", dying), pytest.raises(Killed):
        yield


class Operations:
    """Counts the operations that write in a folder, and lets none happen from number `last` on (from 0)."""

    def __init__(self, folder: Path, last: int | None, half: bool):
        self.folder, self.last, self.half = folder, last, half
        self.names: list[str] = []
        self._dead = False

    @property
    def over(self) -> bool:
        return self._dead

    def before(self, name: str, path: object, create: Callable[[], None] | None = None) -> None:
        if isinstance(path, int) or not Path(os.fsdecode(path)).absolute().is_relative_to(self.folder):
            # descriptors: what they were opened by has been counted
            return
        if not self._dead and len(self.names) == self.last:
            self._dead = True
            if self.half and create is not None:
                create()
        if self._dead:
            raise Killed
        self.names.append(f"{name} {os.path.relpath(os.fsdecode(path), self.folder)}")


@contextmanager
def dying(folder: Path, last: int | None, half: bool = False) -> Iterator[Operations]:
    """Within it every write in `folder` fails from operation `last` on; None lets all happen. With `half` a file that
    would have been opened then is there, with a part of a line in it."""
    operations = Operations(folder.absolute(), last, half)

    def watched(name: str, original: Callable) -> Callable:
        def call(path, *arguments, **more):
            if "dir_fd" not in more and "src_dir_fd" not in more:
                operations.before(name, path)
            return original(path, *arguments, **more)

        return call

    def opened(path, mode="r", *arguments, **more):
        if set(mode) & set("wax+"):

            def create() -> None:
                with real(path, "a") as file:
                    file.write('{"fing')

            operations.before("open", path, create)
        return real(path, mode, *arguments, **more)

    def low_opened(path, flags, *arguments, **more):
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            operations.before("open", path)
        return low(path, flags, *arguments, **more)

    real, low = io.open, os.open
    with mock.patch.multiple(os, **{name: watched(name, vars(os)[name]) for name in CHANGING}, open=low_opened):
        with mock.patch.object(io, "open", opened), mock.patch.object(builtins, "open", opened):
            yield operations


def deaths(folder: Callable[[], Path], work: Callable[[Path], None]) -> Iterator[tuple[str, Path]]:
    """Does `work` in a new folder as often as it has operations, each time killed at another, and once more where a
    file is opened; yields the operation and the folder as it was left."""
    place = folder()
    with dying(place, None) as undisturbed:
        work(place)
    for last, name in enumerate(undisturbed.names):
        for half in (False, True) if name.startswith("open") else (False,):
            place = folder()
            with suppress(Killed), dying(place, last, half) as operations:
                work(place)
            # a process has its number in the names of its files
            assert operations.over and operations.names == undisturbed.names[:last]
            yield f"{'in' if half else 'before'} operation {last}, {name}", place
