"""Starts what tests run on several processes of this machine: CPU, gloo."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def start(processes: int, module: str, *arguments: str | Path) -> subprocess.Popen:
    """torchrun with `python -m module arguments`, its output and errors in one."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [*launcher, "-m", "--", module, *map(str, arguments)],
        cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen, timeout: float = 300) -> str:
    """What it has said, once it has ended."""
    try:
        return process.communicate(timeout=timeout)[0]
    finally:
        process.kill()


def until(process: subprocess.Popen, ready: Callable[[], bool], timeout: float = 200) -> None:
    """Waits for what the process is to bring about; ends it where it does not."""
    deadline = time.monotonic() + timeout
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            raise AssertionError(finish(process)[-3000:])
        time.sleep(0.05)


def workers(process: subprocess.Popen) -> dict[int, int]:
    """Process numbers of a torchrun's workers by rank; Linux alone tells."""
    found = {}
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        for variable in variables:
            if variable.startswith(b"RANK="):
                found[int(variable[5:])] = int(child)
    return found
