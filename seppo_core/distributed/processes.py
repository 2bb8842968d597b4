"""The processes of a launch, as accelerate sees them."""

import os
from datetime import timedelta

from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

PATIENCE = timedelta(hours=12)
"""How long one process waits for another. NCCL's own ten minutes end runs whose main process takes its time
over a slow disk."""
FOREIGN = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "accelerate's FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
"""Ways of sharing a model that the loop does not know, by the variable with which a launcher asks for one."""


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
