"""`python -m benchmarks.experiments.survival.dying FOLDER N MODULE ...` runs a module that kills itself (kill -9).

It does so before its change number N (from 0) of a file or folder in FOLDER.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def die_before(folder: Path, number: int) -> None:
    """Kills this process before its change number `number` in `folder`.

    A temporary file that is opened to be flushed counts too: it has been written then, and not been renamed.
    """
    inside, seen = f"{folder.absolute()}{os.sep}", 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event not in CHANGES and event != "open":
            return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.fsdecode(path)
        if event == "open" and not (arguments[2] or 0) & WRITES and not name.endswith(".tmp"):
            return
        if not f"{Path(name).absolute()}{os.sep}".startswith(inside):
            return
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    sys.addaudithook(watch)


if __name__ == "__main__":
    folder, number, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    die_before(Path(folder), int(number))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
