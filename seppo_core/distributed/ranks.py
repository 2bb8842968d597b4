"""The processes of one launch, where each does a part and the first speaks for all."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list

T = TypeVar("T")

STATUS = 2
"""Exit status of a process that ends because another has failed, and said why."""
PATIENCE = timedelta(hours=12)
"""How long one process waits for another. NCCL's own ten minutes end runs whose main process takes its time
over a slow disk."""
FOREIGN = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "accelerate's FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
"""Ways of sharing a model that the loop does not know, by the variable with which a launcher asks for one."""


@dataclass(frozen=True)
class Ranks:
    """This process's place: `rank` in 0..`world`-1. The default is a process alone."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of(cls, accelerator: Accelerator) -> "Ranks":
        """The processes that accelerate sees; ValueError where the launcher started another number."""
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

    def run_on_main(self, work: Callable[[], T]) -> T:
        """What `work` gives on the first process, on all of them. Its error is raised there; the others
        call `exit_after_peer_failure`."""
        if self.world == 1:
            return work()
        if not self.is_main:
            result, failed = broadcast_object_list([None])[0]
            if failed:
                exit_after_peer_failure()
            return result
        try:
            result = work()
        except BaseException:
            broadcast_object_list([(None, True)])
            raise
        broadcast_object_list([(result, False)])
        return result


ALONE = Ranks()


def exit_after_peer_failure() -> None:
    """Ends a process that has nothing to say; SystemExit."""
    # a launcher ends all processes when one does: the one that knows why is to say it first
    time.sleep(1)
    raise SystemExit(STATUS)


def make_accelerator(mixed_precision: str = "no") -> Accelerator:
    """The first one of a process fixes its precision and its patience; those after it are the same.

    ValueError where the launcher was set up for a way of sharing a model that was never tested with this loop.
    """
    for variable, name in FOREIGN.items():
        # before accelerate would look for the library, or start it
        if os.environ.get(variable, "false").lower() == "true":
            raise ValueError(
                f"the launcher asks for {name} ({variable}=true), which is not tested here; launch plain processes "
                "(torchrun, or accelerate launch --multi_gpu) and set loop.sharded=true to share a model"
            )
    return Accelerator(mixed_precision=mixed_precision, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
