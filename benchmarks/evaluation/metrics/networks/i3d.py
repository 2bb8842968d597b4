"""I3D, the inflated Inception v1 trained on Kinetics-400 (Carreira & Zisserman 2017), which FVD is defined on.

Names and shapes are those of `i3d_pretrained_400.pt`, the conversion used by VideoGPT, TATS and cd-fvd.
"""

import re
from collections.abc import Sequence

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from seppo_core.judging.layers import FrozenNorm

CLASSES = 400
SIDE = 224
FEWEST_FRAMES = 9
"""Below, the pool over two steps of time finds fewer than two left."""

Triple = tuple[int, int, int]

# channels of each block's branches: 1×1 · 1×1 then 3×3 · 1×1 then 3×3 · pool then 1×1
_BLOCKS: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """TensorFlow's SAME: zeros so that ceil(size / stride) outputs fit, the odd one at the end."""
    sides: list[int] = []
    for size, k, s in zip(x.shape[-3:], kernel, stride, strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        # F.pad wants the last dimension first
        sides = [total // 2, total - total // 2, *sides]
    return F.pad(x, sides)


def max_pool_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Zeros at the border count, which is harmless after a ReLU."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


class ConvUnit(nn.Module):
    """Convolution without bias, batch normalisation, ReLU; padded as TensorFlow pads."""

    def __init__(self, before: int, channels: int, kernel: int, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(before, channels, kernel, stride, bias=False)
        # the conversion's value; TensorFlow's graph has 1e-3
        self.bn = FrozenNorm(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(pad_same(x, self.kernel, self.stride))))


class Logits(nn.Module):
    """The classifier, a 1×1×1 convolution with bias."""

    def __init__(self, before: int, classes: int):
        super().__init__()
        self.conv3d = nn.Conv3d(before, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


class Block(nn.Module):
    """Four branches side by side, concatenated."""

    def __init__(self, before: int, channels: Sequence[int]):
        super().__init__()
        point, reduce_1, space_1, reduce_2, space_2, pooled = channels
        self.channels = point + space_1 + space_2 + pooled
        self.b0 = ConvUnit(before, point, 1)
        self.b1a, self.b1b = ConvUnit(before, reduce_1, 1), ConvUnit(reduce_1, space_1, 3)
        self.b2a, self.b2b = ConvUnit(before, reduce_2, 1), ConvUnit(reduce_2, space_2, 3)
        self.b3b = ConvUnit(before, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = max_pool_same(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


class I3D(nn.Module):
    """Clips (b, 3, f, 224, 224) in [-1, 1] to 400 logits, the mean over the steps of time that are left.

    12.7 million parameters, 51 MB. `narrow` divides all channels but the classes, for tests.
    """

    def __init__(self, narrow: int = 1):
        super().__init__()
        self.Conv3d_1a_7x7 = ConvUnit(3, 64 // narrow, 7, stride=2)
        self.Conv3d_2b_1x1 = ConvUnit(64 // narrow, 64 // narrow, 1)
        self.Conv3d_2c_3x3 = ConvUnit(64 // narrow, 192 // narrow, 3)
        before = 192 // narrow
        for name, channels in _BLOCKS.items():
            block = Block(before, [count // narrow for count in channels])
            self.add_module(name, block)
            before = block.channels
        self.logits = Logits(before, CLASSES)

    def forward(self, x: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b 400"]:
        frames, height, width = x.shape[2:]
        if frames < FEWEST_FRAMES or (height, width) != (SIDE, SIDE):
            raise ValueError(
                f"{frames} frames of {height} × {width}; I3D takes at least {FEWEST_FRAMES} of {SIDE} × {SIDE}"
            )
        x = max_pool_same(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = max_pool_same(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in _BLOCKS:
            # the pools between the stages of the network
            if name == "Mixed_4b":
                x = max_pool_same(x, (3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                x = max_pool_same(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        pooled = F.avg_pool3d(x, (2, 7, 7), stride=1)
        return reduce(self.logits(pooled), "b c t 1 1 -> b c", "mean")


_OTHER_NAMES = (
    (re.compile(r"^conv3d_0c_1x1\."), "logits."),
    (re.compile(r"^conv3d_(\d[a-z]_\dx\d)\."), r"Conv3d_\1."),
    (re.compile(r"^mixed_(\d[a-z])\."), r"Mixed_\1."),
    (re.compile(r"\.branch_0\."), ".b0."),
    (re.compile(r"\.branch_([12])\.0\."), r".b\1a."),
    (re.compile(r"\.branch_([123])\.1\."), r".b\1b."),
    (re.compile(r"\.batch3d\."), ".bn."),
)


def i3d_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the names above; those of the other conversion in use (`model_rgb.pth`) are translated."""
    if "conv3d_1a_7x7.conv3d.weight" not in state:
        return state
    translated = {}
    for key, value in state.items():
        for pattern, replacement in _OTHER_NAMES:
            key = pattern.sub(replacement, key)
        translated[key] = value
    return translated
