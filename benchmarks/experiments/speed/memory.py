"""Memory of a variant by itself, although all of a comparison's variants are there at once."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.experiments.speed.timing import Variant
from seppo_core.plan.counter import Counter, bytes_of

GIB = 1024**3


@dataclass(frozen=True)
class Memory:
    """In bytes. `held`: what stays between two calls. `made`: the most that a call has beside it at any time."""

    held: int
    made: int
    allocated: int | None
    """CUDA: the allocator's own peak (`torch.cuda.max_memory_allocated`), what other variants hold included."""

    @property
    def peak(self) -> int:
        """What the variant would need alone."""
        return self.held + self.made

    def to_json(self) -> dict[str, int | None]:
        return {**asdict(self), "peak": self.peak}


def measure_memory(variant: Variant, device: torch.device) -> Memory | None:
    """Calls the variant once more, untimed: by CUDA's allocator, or on a CPU by counting the tensors that are alive.

    Tensors that other threads make are not counted on a CPU. None where the variant does not say what it holds.
    """
    if variant.held is None:
        return None
    variant.before()
    held = list(variant.held())
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        variant.run()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        return Memory(bytes_of(held), peak - before, peak)
    with Counter(held) as counter:
        variant.run()
    return Memory(bytes_of(held), counter.peak, None)


def megabytes(count: float) -> str:
    """Bytes as people read them: 12.3 MB, 4.56 GB."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _available()


def _available(read: Callable[[], str] = lambda: Path("/proc/meminfo").read_text(encoding="ascii")) -> int | None:
    try:
        lines = read().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
