"""The processes of a launch, as accelerate sees them."""

from datetime import timedelta

from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

PATIENCE = timedelta(hours=12)
"""How long one process waits for another. NCCL's own ten minutes end runs whose processes draw samples for hours, or
wait while the main one draws a preview."""


def make_accelerator(mixed_precision: str = "no") -> Accelerator:
    """The first one of a process fixes its precision and its patience; those after it are the same."""
    return Accelerator(mixed_precision=mixed_precision, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
