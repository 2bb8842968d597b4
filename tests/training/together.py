"""Starts what tests run in several processes of this machine, on its CPU (gloo) unless a test asks for a GPU (NCCL).

`start` forks them from a server that has imported torch and diffusers once; `torchrun` starts the real launcher, whose
processes each import everything anew, which takes 15 seconds of processor time.
"""

import faulthandler
import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path

LIMIT = 400
"""Seconds after which a forked process ends itself, whatever it waits for and whether or not its test still runs."""
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
PRELOAD = ["tests.training.preload"]


def forkserver() -> multiprocessing.context.ForkServerContext:
    """The server to fork from. One of another preload, which what was tested has started, makes room for it."""
    context, running = multiprocessing.get_context("forkserver"), multiprocessing.forkserver._forkserver
    if running._preload_modules != PRELOAD:
        running._stop()
        context.set_forkserver_preload(PRELOAD)
    return context


class Launch:
    """Processes that run one module, by rank, as torchrun would start them on one machine.

    If one fails, the others are told to end, as torchrun does it.
    """

    def __init__(self, processes: int, module: str, arguments: Sequence[str], log: Path, device: str = "cpu"):
        self.log, self.told = log, False
        log.touch()
        port, context = free_port(), forkserver()
        self.workers = [
            context.Process(target=run_rank, args=(rank, processes, port, module, arguments, log, device))
            for rank in range(processes)
        ]
        for worker in self.workers:
            worker.start()

    @property
    def output(self) -> str:
        """What all of them have written to their output and error streams."""
        return self.log.read_text(errors="replace")

    def poll(self) -> int | None:
        """The exit status: None while one runs, else the first that is not 0."""
        statuses = [worker.exitcode for worker in self.workers]
        if any(statuses) and not self.told:
            # once: a second signal makes a process leave without saving
            self.told = True
            self.terminate()
        return None if None in statuses else next(filter(None, statuses), 0)

    def terminate(self) -> None:
        for worker in self.workers:
            worker.terminate()

    def finish(self, timeout: float = 300) -> int:
        """Waits for all; kills them if they take longer than `timeout` seconds. Returns the exit status."""
        deadline = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < deadline:
            connection.wait([worker.sentinel for worker in self.workers if worker.exitcode is None], timeout=1)
        for worker in self.workers:
            worker.kill()
            worker.join()
        return self.poll()

    def until(self, ready: Callable[[], bool], timeout: float = 200) -> None:
        """Waits until `ready()`; if the processes end before, that is an error."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self.poll() is not None or time.monotonic() > deadline:
                self.finish(timeout=0)
                raise AssertionError(self.output[-3000:])
            time.sleep(0.05)


def start(processes: int, module: str, *arguments: str | Path, log: Path, device: str = "cpu") -> Launch:
    """Runs `python -m module arguments` in forked processes whose output goes to the new file `log`."""
    return Launch(processes, module, [str(argument) for argument in arguments], log, device)


def torchrun(processes: int, module: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Runs `python -m module arguments` under the real torchrun; output and errors are one text."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*launcher, "-m", "--", module, *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as launched:  # fmt: skip
        try:
            output, _ = launched.communicate(timeout=300)
        finally:
            # its processes too, which hold the pipe
            with suppress(ProcessLookupError):
                os.killpg(launched.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, launched.returncode, output)


def run_rank(
    rank: int, world: int, port: int, module: str, arguments: Sequence[str], log: Path, device: str = "cpu"
) -> None:
    """What a forked process does: the environment that torchrun gives, then the module."""
    with log.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    limit_time()
    os.chdir(ROOT)
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ |= ENVIRONMENT | {name: str(value) for name, value in ranks.items()}
    if device != "cpu":
        del os.environ["ACCELERATE_USE_CPU"]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def limit_time() -> None:
    """Ends this process after `LIMIT` seconds, with a trace of where it hangs."""
    faulthandler.dump_traceback_later(LIMIT, exit=True)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
