"""The processes of one launch, of which rank 0 is the main one."""

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import distributed

from seppo_core.distributed import watch as peers
from seppo_core.distributed.watch import PeerLost, watch_peers

T = TypeVar("T")

STATUS = 2
"""Exit status of a process that ends because another one failed, which reports the error."""
PATIENCE = timedelta(hours=12)
"""Time limit of collectives. NCCL's default of ten minutes ends runs whose main process waits for a slow disk."""
_GONE = re.compile("[Cc]onnection (reset|closed|refused)|[Bb]roken pipe|remote worker")
"""How the libraries of the processes' network say that one of them is gone."""
SECONDS_TO_NAME = 3.0
"""Seconds to wait for a sign of life of the others before one of them is named as lost."""
FOREIGN = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "accelerate's FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
"""Environment variables with which a launcher asks for ways of sharing a model that the loop does not support."""


@dataclass(frozen=True)
class Ranks:
    """The rank of this process, in 0..`world`-1. The default is a single process."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of(cls, accelerator: Accelerator) -> "Ranks":
        """The ranks as accelerate sees them. Raises ValueError if the launcher started another number of processes."""
        world, launched = accelerator.num_processes, int(os.environ.get("WORLD_SIZE", 1))
        if world != launched:
            raise ValueError(
                f"the launcher started {launched} processes, accelerate sees {world}; on CPU launch with "
                "ACCELERATE_USE_CPU=true torchrun --nproc_per_node N"
            )
        return cls(accelerator.process_index, world)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def grouped(self, size: int) -> "Ranks":
        """Rank and number of groups of `size` processes in a row; ValueError if they do not come out even."""
        if self.world % size:
            raise ValueError(
                f"loop.context_parallel={size} splits every item over {size} processes, and this launch has "
                f"{self.world}; launch a multiple of {size}"
            )
        return Ranks(self.rank // size, self.world // size)

    def share(self, batch_size: int, micro_batch_size: int, context: int = 1) -> range:
        """The indices of the global batch that this process computes, with the others of its group of `context`.

        ValueError if they cannot be dealt out evenly.
        """
        groups = self.grouped(context)
        step = groups.world * micro_batch_size
        if batch_size % step:
            of = "processes" if context == 1 else f"groups of {context} processes (loop.context_parallel)"
            raise ValueError(
                f"loop.batch_size={batch_size} is not a multiple of {groups.world} {of} x loop.micro_batch_size="
                f"{micro_batch_size}; use e.g. {math.ceil(batch_size / step) * step}"
            )
        share = batch_size // groups.world
        return range(groups.rank * share, (groups.rank + 1) * share)

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Calls `work` on the main process and returns its result on all. Collective.

        If `work` raises, the main process raises the error and the others call `exit_after_peer_failure`. Raises
        ConnectionError if a process is found to be gone.
        """
        if self.world == 1:
            return work()
        if not self.is_main:
            result, failed = self._shared(None)
            if failed:
                exit_after_peer_failure()
            return result
        try:
            result = work()
        except BaseException:
            broadcast_object_list([(None, True)])
            raise
        self._shared((result, False))
        return result

    def _shared(self, value: object) -> object:
        """The main process's `value`, on all."""
        try:
            return broadcast_object_list([value])[0]
        except RuntimeError as error:
            if not _GONE.search(str(error)):
                raise
            which = (
                "process 1" if self.is_main and self.world == 2 else "another process" if self.is_main else "process 0"
            )
            raise ConnectionError(
                f"{which} of the {self.world} of this launch has ended; if its own last line does not say why, it was "
                "killed: give the same command again"
            ) from error


ALONE = Ranks()


def exit_after_peer_failure() -> None:
    """Exits with status 2 after another process failed; that process reports the error."""
    # a launcher ends all processes when one does: the one that failed must print its error first
    time.sleep(1)
    raise SystemExit(STATUS)


def make_accelerator(mixed_precision: str = "no", deterministic: bool = False) -> Accelerator:
    """An Accelerator; the first one of a process decides precision and time limit, later ones are the same.

    `deterministic` has a GPU use kernels alone that give the same bits every time, for the rest of the process.

    Raises ValueError if the launcher asks for a way of sharing a model that is not tested with this training loop.
    """
    for variable, name in FOREIGN.items():
        # before accelerate would look for the library, or start it
        if os.environ.get(variable, "false").lower() == "true":
            raise ValueError(
                f"the launcher asks for {name} ({variable}=true), which is not tested here; launch plain processes "
                "(torchrun, or accelerate launch --multi_gpu) and set loop.sharded=true to share a model"
            )
    found = Accelerator(mixed_precision=mixed_precision, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
    if deterministic and found.device.type == "cuda":
        be_deterministic()
    if distributed.is_initialized():
        watch_peers(distributed.get_rank(), distributed.get_world_size(), _own_store)
    return found


def be_deterministic() -> None:
    """Turns off what may give other bits the next time, in this process (loop.deterministic)."""
    # read when cuBLAS begins, which is with the first product of matrices
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    # memory without content would be filled too, which helps no result here
    torch.utils.deterministic.fill_uninitialized_memory = False


def _own_store() -> distributed.Store:
    """The store that the processes met in, by a connection of one's own: a thread that waits in one blocks it."""
    return distributed.PrefixStore("watch", distributed.group.WORLD.get_group_store().clone())


def is_loss(error: BaseException) -> bool:
    """Whether a collective broke off because another process is gone. The run can be continued."""
    # gloo's errors have no class of their own
    is_gloos = isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    return is_gloos or isinstance(error, distributed.DistError)


@contextmanager
def naming_the_lost() -> Iterator[None]:
    """Context that turns errors of collectives whose other process is gone into PeerLost, which names it."""
    try:
        yield
    except RuntimeError as error:
        if not is_loss(error) or peers.watch is None:
            raise
        peers.watch.pause()
        silent = peers.watch.lost(SECONDS_TO_NAME)
        if not silent:
            raise
        raise PeerLost(peers.watch.describe(silent[0], "is gone or stopped")) from error
