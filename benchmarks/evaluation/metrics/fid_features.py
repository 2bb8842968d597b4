"""Frames to Inception features, for FID and KID."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.evaluation.metrics.networks.inception import FIDInception
from benchmarks.evaluation.metrics.resize import RESIZES, Resize, inception_input
from seppo_core.judging.layers import load_into
from seppo_core.judging.metric import FeatureExtractor
from seppo_core.judging.video_pixels import Frames
from seppo_core.judging.weights import Source, locate

WEIGHTS = Source(
    part="weights",
    hub=None,
    files=(
        ("pt_inception-2015-12-05-6726825d.safetensors",),
        ("pt_inception-2015-12-05-6726825d.pth",),
        # the same file, same hash, as torch-fidelity hosts it
        ("weights-inception-2015-12-05-6726825d.pth",),
    ),
    size=95_628_359,
    licence="Apache-2.0",
    address="github.com/mseitzer/pytorch-fid/releases/tag/fid_weights",
)


class InceptionFeatures(FeatureExtractor):
    """One row of 2048 per frame."""

    name = "inception"

    def __init__(self, net: nn.Module, files: Sequence[Path], resize: Resize = "clean", batch_size: int = 16):
        if resize not in RESIZES:
            raise ValueError(f"resize={resize!r}; there are {', '.join(RESIZES)}")
        super().__init__(net, files, {"resize": resize})
        self.resize: Resize = resize
        self.batch_size = batch_size

    @classmethod
    def load(
        cls, weights: str | Path | None = None, resize: Resize = "clean", device: str | torch.device = "cpu"
    ) -> "InceptionFeatures":
        """`weights` a file, a folder or a hub id. FileNotFoundError or ValueError as `locate` and `fill` raise them."""
        (path,) = locate(WEIGHTS, weights)
        with torch.device("meta"):
            net = FIDInception()
        return cls(load_into(net, path), (path,), resize).to(device)

    @property
    def column(self) -> str:
        return f"{self.name}[{self.resize}]"

    def extract(self, frames: Frames) -> Float[Tensor, "f 2048"]:
        parts = frames.split(self.batch_size)
        return torch.cat([self.model(inception_input(part, self.resize).to(self.device)) for part in parts])
