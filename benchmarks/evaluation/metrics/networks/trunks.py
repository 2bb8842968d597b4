"""The convolutional halves of AlexNet (2014 variant) and VGG-16, numbered as torchvision's published files number them.

Only what LPIPS looks at: the fully connected layers of the files are left aside.
"""

from typing import Literal

from torch import Tensor, nn

TrunkName = Literal["alex", "vgg"]

# where LPIPS looks: the ReLU that ends each of its five slices
TAPS: dict[TrunkName, tuple[int, ...]] = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
TAP_CHANNELS: dict[TrunkName, tuple[int, ...]] = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}

# channels, kernel, stride, padding of each convolution; "pool" halves what it sees
_ALEX = ((64, 11, 4, 2), "pool", (192, 5, 1, 2), "pool", (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_VGG_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class Trunk(nn.Module):
    """`features` up to the last tap; returns what each tap sees. `narrow` divides all channels, for tests."""

    def __init__(self, name: TrunkName, narrow: int = 1):
        super().__init__()
        self.taps = TAPS[name]
        plan: list[tuple[int, int, int, int] | str] = []
        if name == "alex":
            plan, pool = [*_ALEX], nn.MaxPool2d(3, stride=2)
        else:
            pool = nn.MaxPool2d(2, stride=2)
            for channels, depth in _VGG_STAGES:
                plan += [*[(channels, 3, 1, 1)] * depth, "pool"]
        layers: list[nn.Module] = []
        before = 3
        for step in plan:
            if isinstance(step, str):
                layers.append(pool)
                continue
            channels, kernel, stride, padding = step
            layers += [nn.Conv2d(before, channels // narrow, kernel, stride, padding), nn.ReLU()]
            before = channels // narrow
        self.features = nn.Sequential(*layers[: self.taps[-1] + 1])

    def forward(self, x: Tensor) -> list[Tensor]:
        seen = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                seen.append(x)
        return seen
