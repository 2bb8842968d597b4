"""The networks derived a second time: functions of a state dict under its published names, and its shapes.

Written from the papers' figures and the files' names, without the modules under test; run in float64.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.benchmarks.video_metrics.clips import Shapes, State

# --- LPIPS

ALEX = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
VGG = {
    0: (64, 3, 3),
    2: (64, 64, 3),
    5: (128, 64, 3),
    7: (128, 128, 3),
    10: (256, 128, 3),
    12: (256, 256, 3),
    14: (256, 256, 3),
    17: (512, 256, 3),
    19: (512, 512, 3),
    21: (512, 512, 3),
    24: (512, 512, 3),
    26: (512, 512, 3),
    28: (512, 512, 3),
}
HEADS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


def trunk_shapes(net: str, narrow: int = 1) -> Shapes:
    shapes: Shapes = {}
    for index, (out, into, kernel) in (ALEX if net == "alex" else VGG).items():
        shapes[f"features.{index}.weight"] = (out // narrow, max(into // narrow, 1) if into > 3 else 3, kernel, kernel)
        shapes[f"features.{index}.bias"] = (out // narrow,)
    return shapes


def head_shapes(net: str, narrow: int = 1) -> Shapes:
    return {f"lin{i}.model.1.weight": (1, width // narrow, 1, 1) for i, width in enumerate(HEADS[net])}


def lpips(net: str, trunk: State, heads: State, x: Tensor, y: Tensor) -> Tensor:
    """Distances of pictures in [-1, 1], (b,)."""
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=x.dtype).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=x.dtype).view(3, 1, 1)
    look = _alex if net == "alex" else _vgg
    total = torch.zeros(len(x), dtype=x.dtype)
    for i, (a, b) in enumerate(zip(look(trunk, (x - shift) / scale), look(trunk, (y - shift) / scale), strict=True)):
        a = a / (torch.linalg.vector_norm(a, dim=1, keepdim=True) + 1e-10)
        b = b / (torch.linalg.vector_norm(b, dim=1, keepdim=True) + 1e-10)
        weights = heads[f"lin{i}.model.1.weight"].view(1, -1, 1, 1)
        total = total + (weights * (a - b) ** 2).sum(1).mean((1, 2))
    return total


def _alex(state: State, x: Tensor) -> list[Tensor]:
    def conv(index: int, y: Tensor, stride: int, padding: int) -> Tensor:
        return F.relu(F.conv2d(y, state[f"features.{index}.weight"], state[f"features.{index}.bias"], stride, padding))

    one = conv(0, x, 4, 2)
    two = conv(3, F.max_pool2d(one, 3, 2), 1, 2)
    three = conv(6, F.max_pool2d(two, 3, 2), 1, 1)
    four = conv(8, three, 1, 1)
    return [one, two, three, four, conv(10, four, 1, 1)]


def _vgg(state: State, x: Tensor) -> list[Tensor]:
    seen = []
    for stage in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        if seen:
            x = F.max_pool2d(x, 2, 2)
        for index in stage:
            x = F.relu(F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1))
        seen.append(x)
    return seen


# --- Inception of FID


def _conv_norm(name: str, out: int, into: int, *kernel: int) -> Shapes:
    vectors = {f"{name}.bn.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.conv.weight": (out, into, *kernel)} | vectors


def inception_shapes(n: int = 1) -> Shapes:
    """Every tensor of pt_inception-2015-12-05-6726825d.pth but its counters; all channels divided by n."""
    table: list[tuple[str, int, int, int, int]] = [
        ("Conv2d_1a_3x3", 32, 3, 3, 3),
        ("Conv2d_2a_3x3", 32, 32, 3, 3),
        ("Conv2d_2b_3x3", 64, 32, 3, 3),
        ("Conv2d_3b_1x1", 80, 64, 1, 1),
        ("Conv2d_4a_3x3", 192, 80, 3, 3),
    ]
    for block, into, pool in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        table += [
            (f"Mixed_{block}.branch1x1", 64, into, 1, 1),
            (f"Mixed_{block}.branch5x5_1", 48, into, 1, 1),
            (f"Mixed_{block}.branch5x5_2", 64, 48, 5, 5),
            (f"Mixed_{block}.branch3x3dbl_1", 64, into, 1, 1),
            (f"Mixed_{block}.branch3x3dbl_2", 96, 64, 3, 3),
            (f"Mixed_{block}.branch3x3dbl_3", 96, 96, 3, 3),
            (f"Mixed_{block}.branch_pool", pool, into, 1, 1),
        ]
    table += [
        ("Mixed_6a.branch3x3", 384, 288, 3, 3),
        ("Mixed_6a.branch3x3dbl_1", 64, 288, 1, 1),
        ("Mixed_6a.branch3x3dbl_2", 96, 64, 3, 3),
        ("Mixed_6a.branch3x3dbl_3", 96, 96, 3, 3),
    ]
    for block, c in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        table += [
            (f"Mixed_{block}.branch1x1", 192, 768, 1, 1),
            (f"Mixed_{block}.branch7x7_1", c, 768, 1, 1),
            (f"Mixed_{block}.branch7x7_2", c, c, 1, 7),
            (f"Mixed_{block}.branch7x7_3", 192, c, 7, 1),
            (f"Mixed_{block}.branch7x7dbl_1", c, 768, 1, 1),
            (f"Mixed_{block}.branch7x7dbl_2", c, c, 7, 1),
            (f"Mixed_{block}.branch7x7dbl_3", c, c, 1, 7),
            (f"Mixed_{block}.branch7x7dbl_4", c, c, 7, 1),
            (f"Mixed_{block}.branch7x7dbl_5", 192, c, 1, 7),
            (f"Mixed_{block}.branch_pool", 192, 768, 1, 1),
        ]
    table += [
        ("Mixed_7a.branch3x3_1", 192, 768, 1, 1),
        ("Mixed_7a.branch3x3_2", 320, 192, 3, 3),
        ("Mixed_7a.branch7x7x3_1", 192, 768, 1, 1),
        ("Mixed_7a.branch7x7x3_2", 192, 192, 1, 7),
        ("Mixed_7a.branch7x7x3_3", 192, 192, 7, 1),
        ("Mixed_7a.branch7x7x3_4", 192, 192, 3, 3),
    ]
    for block, into in (("7b", 1280), ("7c", 2048)):
        table += [
            (f"Mixed_{block}.branch1x1", 320, into, 1, 1),
            (f"Mixed_{block}.branch3x3_1", 384, into, 1, 1),
            (f"Mixed_{block}.branch3x3_2a", 384, 384, 1, 3),
            (f"Mixed_{block}.branch3x3_2b", 384, 384, 3, 1),
            (f"Mixed_{block}.branch3x3dbl_1", 448, into, 1, 1),
            (f"Mixed_{block}.branch3x3dbl_2", 384, 448, 3, 3),
            (f"Mixed_{block}.branch3x3dbl_3a", 384, 384, 1, 3),
            (f"Mixed_{block}.branch3x3dbl_3b", 384, 384, 3, 1),
            (f"Mixed_{block}.branch_pool", 192, into, 1, 1),
        ]
    shapes: Shapes = {}
    for name, out, into, *kernel in table:
        shapes |= _conv_norm(name, out // n, into // n if into > 3 else 3, *kernel)
    return shapes | {"fc.weight": (1008, 2048 // n), "fc.bias": (1008,)}


def inception(state: State, x: Tensor) -> Tensor:
    def unit(name: str, y: Tensor, stride: int = 1, valid: bool = False) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        if not valid:
            down, across = weight.shape[2] // 2, weight.shape[3] // 2
            y = F.pad(y, (across, across, down, down))
        return F.relu(_norm(state, f"{name}.bn", F.conv2d(y, weight, stride=stride), 1e-3))

    def chain(prefix: str, y: Tensor, *names: str) -> Tensor:
        for name in names:
            y = unit(f"{prefix}.{name}", y)
        return y

    x = unit("Conv2d_1a_3x3", x, 2, True)
    x = unit("Conv2d_2b_3x3", unit("Conv2d_2a_3x3", x, valid=True))
    x = F.max_pool2d(x, 3, 2)
    x = F.max_pool2d(unit("Conv2d_4a_3x3", unit("Conv2d_3b_1x1", x), valid=True), 3, 2)
    for p in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        doubled = chain(p, x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        fives = chain(p, x, "branch5x5_1", "branch5x5_2")
        x = torch.cat([chain(p, x, "branch1x1"), fives, doubled, chain(p, _inner_mean(x), "branch_pool")], 1)
    p = "Mixed_6a"
    doubled = unit(f"{p}.branch3x3dbl_3", chain(p, x, "branch3x3dbl_1", "branch3x3dbl_2"), 2, True)
    x = torch.cat([unit(f"{p}.branch3x3", x, 2, True), doubled, F.max_pool2d(x, 3, 2)], 1)
    for p in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        sevens = chain(p, x, *(f"branch7x7_{i}" for i in (1, 2, 3)))
        doubled = chain(p, x, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)))
        x = torch.cat([chain(p, x, "branch1x1"), sevens, doubled, chain(p, _inner_mean(x), "branch_pool")], 1)
    p = "Mixed_7a"
    threes = unit(f"{p}.branch3x3_2", chain(p, x, "branch3x3_1"), 2, True)
    sevens = chain(p, x, "branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3")
    x = torch.cat([threes, unit(f"{p}.branch7x7x3_4", sevens, 2, True), F.max_pool2d(x, 3, 2)], 1)
    for p in ("Mixed_7b", "Mixed_7c"):
        threes = chain(p, x, "branch3x3_1")
        doubled = chain(p, x, "branch3x3dbl_1", "branch3x3dbl_2")
        pooled = _inner_mean(x) if p == "Mixed_7b" else F.max_pool2d(x, 3, 1, padding=1)
        x = torch.cat(
            [
                chain(p, x, "branch1x1"),
                chain(p, threes, "branch3x3_2a"),
                chain(p, threes, "branch3x3_2b"),
                chain(p, doubled, "branch3x3dbl_3a"),
                chain(p, doubled, "branch3x3dbl_3b"),
                chain(p, pooled, "branch_pool"),
            ],
            1,
        )
    return x.flatten(2).mean(2)


def _inner_mean(x: Tensor) -> Tensor:
    """3 × 3 mean of what lies inside the picture: sums divided by how many there are."""
    ones = torch.ones(1, 1, 3, 3, dtype=x.dtype)
    sums = F.conv2d(x, ones.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
    return sums / F.conv2d(torch.ones(1, 1, *x.shape[2:], dtype=x.dtype), ones, padding=1)


def _norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{part}"].view(1, -1, *[1] * (x.ndim - 2))
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


# --- I3D

MIXED = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


def i3d_shapes(n: int = 1) -> Shapes:
    """Every tensor of i3d_pretrained_400.pt but its counters; all channels divided by n."""
    table = [
        ("Conv3d_1a_7x7", 64, 3, 7),
        ("Conv3d_2b_1x1", 64, 64, 1),
        ("Conv3d_2c_3x3", 192, 64, 3),
    ]
    for block, (into, point, before_1, space_1, before_2, space_2, pooled) in MIXED.items():
        table += [
            (f"Mixed_{block}.b0", point, into, 1),
            (f"Mixed_{block}.b1a", before_1, into, 1),
            (f"Mixed_{block}.b1b", space_1, before_1, 3),
            (f"Mixed_{block}.b2a", before_2, into, 1),
            (f"Mixed_{block}.b2b", space_2, before_2, 3),
            (f"Mixed_{block}.b3b", pooled, into, 1),
        ]
    shapes: Shapes = {}
    for name, out, into, kernel in table:
        shapes[f"{name}.conv3d.weight"] = (out // n, into // n if into > 3 else 3, *[kernel] * 3)
        shapes |= {f"{name}.bn.{part}": (out // n,) for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes | {"logits.conv3d.weight": (400, 1024 // n, 1, 1, 1), "logits.conv3d.bias": (400,)}


def i3d(state: State, x: Tensor) -> Tensor:
    """As TensorFlow pads: an output wherever the stride lands inside, the window's overhang split, more behind."""

    def padded(y: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float) -> Tensor:
        margins: list[int] = []
        for dimension, (k, s) in enumerate(zip(kernel, stride, strict=True)):
            size = y.shape[2 + dimension]
            overhang = max(k - s if size % s == 0 else k - size % s, 0)
            margins = [overhang // 2, overhang - overhang // 2, *margins]
        return F.pad(y, margins, value=value)

    def unit(name: str, y: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.conv3d.weight"]
        y = padded(y, tuple(weight.shape[2:]), (stride,) * 3, 0)
        return F.relu(_norm(state, f"{name}.bn", F.conv3d(y, weight, stride=stride), 1e-5))

    def pool(y: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        # nothing outside the picture can be the largest
        return F.max_pool3d(padded(y, kernel, stride, float("-inf")), kernel, stride)

    x = pool(unit("Conv3d_1a_7x7", x, 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x)), (1, 3, 3), (1, 2, 2))
    for block in MIXED:
        if block == "4b":
            x = pool(x, (3, 3, 3), (2, 2, 2))
        if block == "5b":
            x = pool(x, (2, 2, 2), (2, 2, 2))
        p = f"Mixed_{block}"
        x = torch.cat(
            [
                unit(f"{p}.b0", x),
                unit(f"{p}.b1b", unit(f"{p}.b1a", x)),
                unit(f"{p}.b2b", unit(f"{p}.b2a", x)),
                unit(f"{p}.b3b", pool(x, (3, 3, 3), (1, 1, 1))),
            ],
            1,
        )
    # the mean over 7 × 7 and two neighbouring steps, then over what is left; both are linear, as is the classifier
    steps = x.mean((3, 4))
    steps = (steps[:, :, 1:] + steps[:, :, :-1]) / 2
    weight = state["logits.conv3d.weight"][:, :, 0, 0, 0]
    return steps.mean(2) @ weight.t() + state["logits.conv3d.bias"]
