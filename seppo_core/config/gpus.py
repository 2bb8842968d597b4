"""GPUs by name: memory and speed as their makers state them. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

GpuName = Literal[
    "a100", "a100-40gb", "h100", "h100-pcie", "h200", "b200", "mi300x", "l40s", "l4", "a6000", "a10", "v100", "t4",
    "rtx3090", "rtx4090", "rtx5090",
]  # fmt: skip
GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """A GPU. Dense TFLOPS: `half` in bfloat16 (float16 if it has none) with sums in float32, `single` in float32."""

    title: str
    memory_gib: float
    half: float
    single: float
    bfloat16: bool = True

    @property
    def memory(self) -> int:
        """Memory in bytes, as the driver reports it."""
        return int(self.memory_gib * GIB)

    @property
    def convolutions(self) -> float:
        """TFLOPS of float32 convolutions: in TF32, which cuDNN uses for them on GPUs that also have bfloat16."""
        return max(self.single, self.half / 2) if self.bfloat16 else self.single


GPUS: dict[str, Gpu] = {
    "a100": Gpu("A100 80 GB SXM", 80.0, 312, 19.5),
    "a100-40gb": Gpu("A100 40 GB SXM", 40.0, 312, 19.5),
    "h100": Gpu("H100 80 GB SXM", 79.6, 989, 67),
    "h100-pcie": Gpu("H100 80 GB PCIe", 79.6, 756, 51),
    "h200": Gpu("H200 141 GB SXM", 140.4, 989, 67),
    "b200": Gpu("B200 180 GB", 179.1, 2250, 75),
    "mi300x": Gpu("MI300X 192 GB", 191.7, 1307, 163.4),
    "l40s": Gpu("L40S 48 GB", 45.0, 362, 91.6),
    "l4": Gpu("L4 24 GB", 22.5, 121, 30.3),
    "a6000": Gpu("RTX A6000 48 GB", 48.0, 155, 38.7),
    "a10": Gpu("A10 24 GB", 22.5, 125, 31.2),
    "v100": Gpu("V100 32 GB SXM", 32.0, 125, 15.7, bfloat16=False),
    "t4": Gpu("T4 16 GB", 15.0, 65, 8.1, bfloat16=False),
    "rtx3090": Gpu("RTX 3090 24 GB", 24.0, 71, 35.6),
    "rtx4090": Gpu("RTX 4090 24 GB", 24.0, 165.2, 82.6),
    "rtx5090": Gpu("RTX 5090 32 GB", 31.8, 209.5, 104.8),
}
"""GPUs by the name that `--gpu` takes."""


def holding(needed: int) -> list[str]:
    """Titles of the GPUs with at least `needed` bytes, the smallest first."""
    fitting = sorted((gpu for gpu in GPUS.values() if gpu.memory >= needed), key=lambda gpu: gpu.memory)
    return [gpu.title for gpu in fitting]
