"""Clips to VideoMAE features, for the content-debiased FVD (Ge et al. 2024, arXiv 2404.12391)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.evaluation.metrics.networks.videomae import FRAMES, SIDE, VideoMAE, videomae_state
from seppo_core.judging.layers import fill_without_counters
from seppo_core.judging.metric import FeatureExtractor
from seppo_core.judging.video_pixels import Frames, levels
from seppo_core.judging.weights import Source, locate, read_tensors

WEIGHTS = Source(
    part="weights",
    hub=None,
    files=(("vit_g_hybrid_pt_1200e_ssv2_ft.safetensors",), ("vit_g_hybrid_pt_1200e_ssv2_ft.pth",)),
    size=4_050_000_000,
    licence="MIT (VideoMAE V2's repository)",
    address="github.com/OpenGVLab/VideoMAEv2, ViT-g fine-tuned on Something-Something V2",
)


class VideoMAEFeatures(FeatureExtractor):
    """One row of 1408 features per clip of exactly 16 frames.

    As cd-fvd has it: both sides squashed to 224 by bilinear interpolation without antialias, values in [0, 1], no mean
    and deviation. Fine-tuned on motions, it is moved less by what single frames look like than I3D is.
    """

    name = "videomae"

    def __init__(self, net: nn.Module, files: Sequence[Path], side: int = SIDE, frames: int = FRAMES):
        super().__init__(net, files, {"geometry": "squash", "frames": frames})
        self.side, self.frames = side, frames

    @classmethod
    def load(cls, weights: str | Path | None = None, device: str | torch.device = "cpu") -> "VideoMAEFeatures":
        """`weights` a file, a folder or a hub id. FileNotFoundError or ValueError as `locate` and `fill` raise them."""
        (path,) = locate(WEIGHTS, weights)
        with torch.device("meta"):
            net = VideoMAE()
        fill_without_counters(net, videomae_state(read_tensors(path)), str(path))
        return cls(net, (path,)).to(device)

    @property
    def column(self) -> str:
        return f"{self.name}[{self.name},{self.frames}f]"

    def extract(self, frames: Frames) -> Float[Tensor, "1 d"]:
        if len(frames) != self.frames:
            raise ValueError(
                f"a clip of {len(frames)} frames where {self.frames} are expected; take "
                f"frames[even_frames(f, {self.frames})]"
            )
        return self.model(videomae_input(frames.to(self.device), self.side))


def videomae_input(frames: Frames, side: int = SIDE) -> Float[Tensor, "1 3 f side side"]:
    """A clip as the network takes it, in [0, 1]."""
    squashed = F.interpolate(levels(frames).float() / 255, (side, side), mode="bilinear", align_corners=False)
    return rearrange(squashed, "f c h w -> 1 c f h w")
