"""LPIPS v0.1 (Zhang et al. 2018): weighted distance of deep features of two frames; 0 for equal ones."""

from collections.abc import Sequence
from pathlib import Path

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.evaluation.metrics.networks.trunks import TAP_CHANNELS, Trunk, TrunkName
from seppo_core.judging.layers import fill_without_counters
from seppo_core.judging.metric import PairedMetric
from seppo_core.judging.video_pixels import Frames, unit
from seppo_core.judging.weights import Source, locate, read_tensors

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)

HEADS: dict[TrunkName, Source] = {
    name: Source(
        part="weights",
        hub=None,
        files=((f"{name}.safetensors",), (f"{name}.pth",)),
        size=size,
        licence="BSD-2-Clause",
        address="github.com/richzhang/PerceptualSimilarity, lpips/weights/v0.1",
    )
    for name, size in (("alex", 6_009), ("vgg", 7_289))
}
BACKBONES: dict[TrunkName, Source] = {
    "alex": Source(
        part="backbone",
        hub=None,
        files=(("alexnet.safetensors",), ("alexnet-owt-7be5be79.pth",), ("alexnet-owt-4df8aa71.pth",)),
        size=244_408_911,
        licence="BSD-3-Clause",
        address="download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    ),
    "vgg": Source(
        part="backbone",
        hub=None,
        files=(("vgg16.safetensors",), ("vgg16-397923af.pth",)),
        size=553_433_881,
        licence="BSD-3-Clause",
        address="download.pytorch.org/models/vgg16-397923af.pth",
    ),
}


class Heads(nn.Module):
    """The learned weight of every channel, `lin{i}.model.1.weight` of shape (1, channels, 1, 1), without a bias."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        for i, count in enumerate(channels):
            # index 0 is the dropout of training
            body = nn.Sequential(nn.Dropout(), nn.Conv2d(count, 1, 1, bias=False))
            self.add_module(f"lin{i}", nn.ModuleDict({"model": body}))

    def forward(self, difference: Tensor, level: int) -> Tensor:
        return self.get_submodule(f"lin{level}.model")(difference)


class LPIPSNet(nn.Module):
    """The graph. `narrow` divides the channels, for tests."""

    def __init__(self, name: TrunkName, narrow: int = 1):
        super().__init__()
        self.trunk = Trunk(name, narrow)
        self.heads = Heads([count // narrow for count in TAP_CHANNELS[name]])

    def forward(self, x: Float[Tensor, "b 3 h w"], y: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Distances of pictures in [-1, 1]."""
        total = x.new_zeros(len(x))
        for level, (seen_x, seen_y) in enumerate(zip(self._look(x), self._look(y), strict=True)):
            difference = (_unit_length(seen_x) - _unit_length(seen_y)).square()
            total = total + reduce(self.heads(difference, level), "b 1 h w -> b", "mean")
        return total

    def _look(self, x: Tensor) -> list[Tensor]:
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        return self.trunk((x - shift) / scale)


def _unit_length(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


class LPIPS(PairedMetric):
    """Mean over frames is the clip's score. Frames are compared at the size they have; below 64 pixels it means little.

    Sizes: AlexNet 244 MB, VGG-16 553 MB (their classifiers are in the files but not read), heads 6 and 7 kB.
    """

    name = "lpips"
    better = -1

    def __init__(self, net: nn.Module, files: Sequence[Path], variant: TrunkName, batch_size: int = 8):
        super().__init__(net, files, {"net": variant})
        self.batch_size = batch_size

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        backbone: str | Path | None = None,
        net: TrunkName = "alex",
        device: str | torch.device = "cpu",
    ) -> "LPIPS":
        """`weights` the heads' file or its folder, `backbone` that of torchvision's AlexNet or VGG-16.

        Raises FileNotFoundError for what is missing, ValueError for an unknown net or a file of another.
        """
        if net not in HEADS:
            raise ValueError(f"net={net!r} of LPIPS; there are {', '.join(HEADS)}")
        (heads_file,) = locate(HEADS[net], weights)
        (trunk_file,) = locate(BACKBONES[net], backbone)
        with torch.device("meta"):
            model = LPIPSNet(net)
        trunk = {key: value for key, value in read_tensors(trunk_file).items() if not key.startswith("classifier.")}
        fill_without_counters(model.trunk, trunk, str(trunk_file))
        fill_without_counters(model.heads, read_tensors(heads_file), str(heads_file))
        return cls(model, (heads_file, trunk_file), net).to(device)

    @property
    def column(self) -> str:
        return f"{self.name}_{self.options['net']}"

    def compare_frames(self, frames: Frames, reference: Frames) -> Float[Tensor, " f"]:
        pairs = zip(frames.split(self.batch_size), reference.split(self.batch_size), strict=True)
        return torch.cat([self.model(unit(x) * 2 - 1, unit(y) * 2 - 1) for x, y in pairs])
