"""GPUs by name: memory and speed as their makers state them. Imports no torch.

Rates are dense, from NVIDIA's architecture whitepapers (Turing TU102, Ampere GA102, Ada, RTX Blackwell) and the data
sheets of V100, T4, A10, A30, A40, A100, L4, L40, L40S, H20, H100, H200 and B200, and from AMD's of Instinct MI300X,
MI325X and Radeon RX 7900 XTX. Tensor cores of GeForce cards sum into float32 at half the rate that is often quoted,
which is into float16.
"""

from dataclasses import dataclass
from typing import Literal

GpuName = Literal[
    "a100", "a100-40gb", "a30", "a40", "h100", "h100-pcie", "h100-nvl", "h20", "h200", "b200", "mi300x", "mi325x",
    "l40", "l40s", "l4", "a6000", "a5000", "rtx6000-ada", "rtx5000-ada", "rtx-pro-6000", "a10", "v100", "t4",
    "rtx2080ti", "rtx3060", "rtx3080", "rtx3090", "rtx4060ti-16gb", "rtx4070", "rtx4070ti-super", "rtx4080", "rtx4090",
    "rtx5060ti-16gb", "rtx5070", "rtx5070ti", "rtx5080", "rtx5090", "rx7900xtx",
]  # fmt: skip
GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """A GPU. Dense TFLOPS: `half` in bfloat16 (float16 if it has none) with sums in float32, `single` in float32.

    Gigabytes a second: `bandwidth` of its memory, and `link` from the host's pinned memory, about 80 % of what PCIe of
    its version and lanes can carry.
    """

    title: str
    memory_gib: float
    half: float
    single: float
    bandwidth: float
    link: float
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
    "a100": Gpu("A100 80 GB SXM", 80.0, 312, 19.5, 2039, 25),
    "a100-40gb": Gpu("A100 40 GB SXM", 40.0, 312, 19.5, 1555, 25),
    "a30": Gpu("A30 24 GB", 24.0, 165, 10.3, 933, 25),
    "a40": Gpu("A40 48 GB", 45.0, 149.7, 37.4, 696, 25),
    "h100": Gpu("H100 80 GB SXM", 79.6, 989, 67, 3350, 50),
    "h100-pcie": Gpu("H100 80 GB PCIe", 79.6, 756, 51, 2000, 50),
    "h100-nvl": Gpu("H100 94 GB NVL", 93.6, 835, 60, 3900, 50),
    "h20": Gpu("H20 96 GB SXM", 95.6, 148, 44, 4000, 50),
    "h200": Gpu("H200 141 GB SXM", 140.4, 989, 67, 4800, 50),
    "b200": Gpu("B200 180 GB", 179.1, 2250, 75, 8000, 50),
    "mi300x": Gpu("MI300X 192 GB", 191.7, 1307, 163.4, 5300, 50),
    "mi325x": Gpu("MI325X 256 GB", 255.7, 1307, 163.4, 6000, 50),
    "l40": Gpu("L40 48 GB", 45.0, 181, 90.5, 864, 25),
    "l40s": Gpu("L40S 48 GB", 45.0, 362, 91.6, 864, 25),
    "l4": Gpu("L4 24 GB", 22.5, 121, 30.3, 300, 25),
    "a6000": Gpu("RTX A6000 48 GB", 48.0, 155, 38.7, 768, 25),
    "a5000": Gpu("RTX A5000 24 GB", 24.0, 111, 27.8, 768, 25),
    "rtx6000-ada": Gpu("RTX 6000 Ada 48 GB", 48.0, 364, 91.1, 960, 25),
    "rtx5000-ada": Gpu("RTX 5000 Ada 32 GB", 32.0, 261, 65.3, 576, 25),
    "rtx-pro-6000": Gpu("RTX PRO 6000 Blackwell 96 GB", 95.6, 504, 126, 1792, 50),
    "a10": Gpu("A10 24 GB", 22.5, 125, 31.2, 600, 25),
    "v100": Gpu("V100 32 GB SXM", 32.0, 125, 15.7, 900, 12, bfloat16=False),
    "t4": Gpu("T4 16 GB", 15.0, 65, 8.1, 320, 12, bfloat16=False),
    "rtx2080ti": Gpu("RTX 2080 Ti 11 GB", 10.8, 53.8, 13.4, 616, 12, bfloat16=False),
    "rtx3060": Gpu("RTX 3060 12 GB", 12.0, 25.5, 12.7, 360, 25),
    "rtx3080": Gpu("RTX 3080 10 GB", 10.0, 59.5, 29.8, 760, 25),
    "rtx3090": Gpu("RTX 3090 24 GB", 24.0, 71, 35.6, 936, 25),
    "rtx4060ti-16gb": Gpu("RTX 4060 Ti 16 GB", 16.0, 44.1, 22.1, 288, 12),
    "rtx4070": Gpu("RTX 4070 12 GB", 12.0, 58.3, 29.1, 504, 25),
    "rtx4070ti-super": Gpu("RTX 4070 Ti SUPER 16 GB", 16.0, 88.2, 44.1, 672, 25),
    "rtx4080": Gpu("RTX 4080 16 GB", 16.0, 97.5, 48.7, 717, 25),
    "rtx4090": Gpu("RTX 4090 24 GB", 24.0, 165.2, 82.6, 1008, 25),
    "rtx5060ti-16gb": Gpu("RTX 5060 Ti 16 GB", 15.9, 47.4, 23.7, 448, 25),
    "rtx5070": Gpu("RTX 5070 12 GB", 11.9, 61.7, 30.9, 672, 50),
    "rtx5070ti": Gpu("RTX 5070 Ti 16 GB", 15.9, 87.9, 43.9, 896, 50),
    "rtx5080": Gpu("RTX 5080 16 GB", 15.9, 112.6, 56.3, 960, 50),
    "rtx5090": Gpu("RTX 5090 32 GB", 31.8, 209.5, 104.8, 1792, 50),
    "rx7900xtx": Gpu("RX 7900 XTX 24 GB", 24.0, 122.8, 61.4, 960, 25),
}
"""GPUs by the name that `--gpu` takes."""


def holding(needed: int) -> list[str]:
    """Titles of the GPUs with at least `needed` bytes, the smallest first."""
    fitting = sorted((gpu for gpu in GPUS.values() if gpu.memory >= needed), key=lambda gpu: gpu.memory)
    return [gpu.title for gpu in fitting]
