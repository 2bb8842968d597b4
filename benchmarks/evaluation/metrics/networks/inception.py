"""Inception v3 as TensorFlow's 2015-12-05 graph has it, the network that FID is defined on (Heusel et al. 2017).

It differs from torchvision's: average pools do not count the padding, and the last block's pool is a maximum. Names and
shapes are those of `pt_inception-2015-12-05-6726825d.pth`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from seppo_core.judging.layers import FrozenNorm

FEATURES = 2048
CLASSES = 1008  # of the published file's classifier, which FID does not use

# (channels, kernel) of a unit that keeps the size, (channels, kernel, stride) of one that does not pad
Unit = tuple[int, int | tuple[int, int]] | tuple[int, int, int]
# units applied in order; a tuple of names at the end is a fork whose outputs are both kept
Path = Sequence[str | tuple[str, str]]
Pool = Literal["average", "max", "max, halving"]


class ConvUnit(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, before: int, channels: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = True):
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if pad else 0
        self.conv = nn.Conv2d(before, channels, sides, stride, padding, bias=False)
        self.bn = FrozenNorm(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Paths side by side, concatenated in order, and last the pooled input (through `branch_pool` if there is one)."""

    def __init__(self, before: int, units: Mapping[str, Unit], paths: Sequence[Path], pool: Pool):
        super().__init__()
        self.paths, self.pool = paths, pool
        self.channels = 0
        for path in paths:
            inside = before
            for step in path:
                for name in (step,) if isinstance(step, str) else step:
                    channels, kernel, *stride = units[name]
                    self.add_module(name, ConvUnit(inside, channels, kernel, *(stride or [1]), pad=not stride))
                last = step if isinstance(step, str) else step[0]
                inside = units[last][0]
            self.channels += inside * (1 if isinstance(path[-1], str) else len(path[-1]))
        if "branch_pool" in units:
            self.add_module("branch_pool", ConvUnit(before, *units["branch_pool"]))
        self.channels += units["branch_pool"][0] if "branch_pool" in units else before

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for path in self.paths:
            y = x
            for step in path:
                if isinstance(step, str):
                    y = self.get_submodule(step)(y)
                else:
                    y = torch.cat([self.get_submodule(name)(y) for name in step], 1)
            out.append(y)
        return torch.cat([*out, self._pooled(x)], 1)

    def _pooled(self, x: Tensor) -> Tensor:
        match self.pool:
            case "average":
                return self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))
            case "max":
                return self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))
            case "max, halving":
                return F.max_pool2d(x, 3, stride=2)


def _block_35(before: int, pooled: int, n: int) -> Block:
    units: dict[str, Unit] = {
        "branch1x1": (64 // n, 1),
        "branch5x5_1": (48 // n, 1),
        "branch5x5_2": (64 // n, 5),
        "branch3x3dbl_1": (64 // n, 1),
        "branch3x3dbl_2": (96 // n, 3),
        "branch3x3dbl_3": (96 // n, 3),
        "branch_pool": (pooled // n, 1),
    }
    return Block(before, units, [["branch1x1"], _steps("branch5x5", 2), _steps("branch3x3dbl", 3)], "average")


def _to_17(before: int, n: int) -> Block:
    units: dict[str, Unit] = {
        "branch3x3": (384 // n, 3, 2),
        "branch3x3dbl_1": (64 // n, 1),
        "branch3x3dbl_2": (96 // n, 3),
        "branch3x3dbl_3": (96 // n, 3, 2),
    }
    return Block(before, units, [["branch3x3"], _steps("branch3x3dbl", 3)], "max, halving")


def _block_17(before: int, inner: int, n: int) -> Block:
    across, down = (1, 7), (7, 1)
    units: dict[str, Unit] = {
        "branch1x1": (192 // n, 1),
        "branch7x7_1": (inner // n, 1),
        "branch7x7_2": (inner // n, across),
        "branch7x7_3": (192 // n, down),
        "branch7x7dbl_1": (inner // n, 1),
        "branch7x7dbl_2": (inner // n, down),
        "branch7x7dbl_3": (inner // n, across),
        "branch7x7dbl_4": (inner // n, down),
        "branch7x7dbl_5": (192 // n, across),
        "branch_pool": (192 // n, 1),
    }
    return Block(before, units, [["branch1x1"], _steps("branch7x7", 3), _steps("branch7x7dbl", 5)], "average")


def _to_8(before: int, n: int) -> Block:
    units: dict[str, Unit] = {
        "branch3x3_1": (192 // n, 1),
        "branch3x3_2": (320 // n, 3, 2),
        "branch7x7x3_1": (192 // n, 1),
        "branch7x7x3_2": (192 // n, (1, 7)),
        "branch7x7x3_3": (192 // n, (7, 1)),
        "branch7x7x3_4": (192 // n, 3, 2),
    }
    return Block(before, units, [_steps("branch3x3", 2), _steps("branch7x7x3", 4)], "max, halving")


def _block_8(before: int, pool: Pool, n: int) -> Block:
    units: dict[str, Unit] = {
        "branch1x1": (320 // n, 1),
        "branch3x3_1": (384 // n, 1),
        "branch3x3_2a": (384 // n, (1, 3)),
        "branch3x3_2b": (384 // n, (3, 1)),
        "branch3x3dbl_1": (448 // n, 1),
        "branch3x3dbl_2": (384 // n, 3),
        "branch3x3dbl_3a": (384 // n, (1, 3)),
        "branch3x3dbl_3b": (384 // n, (3, 1)),
        "branch_pool": (192 // n, 1),
    }
    paths: list[Path] = [
        ["branch1x1"],
        ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")],
        ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")],
    ]
    return Block(before, units, paths, pool)


def _steps(stem: str, count: int) -> list[str]:
    return [f"{stem}_{i + 1}" for i in range(count)]


class FIDInception(nn.Module):
    """Pictures (b, 3, 299, 299), already scaled to about [-1, 1], to the 2048 features before the classifier.

    24 million parameters, 96 MB, Apache-2.0. `narrow` divides all channels, for tests.
    """

    def __init__(self, narrow: int = 1):
        super().__init__()
        n = narrow
        self.Conv2d_1a_3x3 = ConvUnit(3, 32 // n, 3, stride=2, pad=False)
        self.Conv2d_2a_3x3 = ConvUnit(32 // n, 32 // n, 3, pad=False)
        self.Conv2d_2b_3x3 = ConvUnit(32 // n, 64 // n, 3)
        self.Conv2d_3b_1x1 = ConvUnit(64 // n, 80 // n, 1)
        self.Conv2d_4a_3x3 = ConvUnit(80 // n, 192 // n, 3, pad=False)
        self.Mixed_5b = _block_35(192 // n, 32, n)
        self.Mixed_5c = _block_35(self.Mixed_5b.channels, 64, n)
        self.Mixed_5d = _block_35(self.Mixed_5c.channels, 64, n)
        self.Mixed_6a = _to_17(self.Mixed_5d.channels, n)
        self.Mixed_6b = _block_17(self.Mixed_6a.channels, 128, n)
        self.Mixed_6c = _block_17(self.Mixed_6b.channels, 160, n)
        self.Mixed_6d = _block_17(self.Mixed_6c.channels, 160, n)
        self.Mixed_6e = _block_17(self.Mixed_6d.channels, 192, n)
        self.Mixed_7a = _to_8(self.Mixed_6e.channels, n)
        self.Mixed_7b = _block_8(self.Mixed_7a.channels, "average", n)
        # an oversight of the 2015 graph that every published FID has in it
        self.Mixed_7c = _block_8(self.Mixed_7b.channels, "max", n)
        self.fc = nn.Linear(self.Mixed_7c.channels, CLASSES)

    def forward(self, x: Float[Tensor, "b 3 299 299"]) -> Float[Tensor, "b 2048"]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = self.get_submodule(f"Mixed_{name}")(x)
        return x.mean((2, 3))
