"""Faults that no file can hold: signals, and what a disk refuses, planted where they come up."""

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from seppo_core.methods.seppo import Seppo
from seppo_core.training.trainer import Trainer


def signals_at(owner: type, name: str, call: int, number: int):
    """Sends this process a signal before call number `call` (from 1, counted anew) of a method."""

    @contextmanager
    def around():
        original, calls = getattr(owner, name), []

        def wrapped(self, *arguments, **more):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), number)
            return original(self, *arguments, **more)

        with mock.patch.object(owner, name, wrapped):
            yield

    return around


def disk_error(name: str, file: str):
    """The write of a text file of this name fails as on such a disk; real disks are in tests/training."""
    number = getattr(errno, name)

    @contextmanager
    def around():
        write = Path.write_text

        def refusing(self, *arguments, **more):
            if file in self.name:
                raise OSError(number, os.strerror(number), str(self))
            return write(self, *arguments, **more)

        with mock.patch.object(Path, "write_text", refusing):
            yield

    return around


@contextmanager
def vanishing():
    """After the next update the run's folder is another, empty one."""
    original = Trainer._update

    def wrapped(self, *arguments):
        metrics = original(self, *arguments)
        Path("run").rename("away")
        Path("run").mkdir()
        return metrics

    with mock.patch.object(Trainer, "_update", wrapped):
        yield


@contextmanager
def nan_loss():
    original = Seppo.loss

    def loss(self, *arguments):
        value, metrics = original(self, *arguments)
        return value * float("nan"), metrics

    with mock.patch.object(Seppo, "loss", loss):
        yield
