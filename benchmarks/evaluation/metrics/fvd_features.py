"""Clips to I3D features, for FVD and KVD."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.evaluation.metrics.networks.i3d import FEWEST_FRAMES, I3D, i3d_state
from benchmarks.evaluation.metrics.networks.i3d_geometry import GEOMETRIES, Geometry, i3d_input
from seppo_core.judging.layers import fill_without_counters
from seppo_core.judging.metric import FeatureExtractor
from seppo_core.judging.video_pixels import Frames, levels
from seppo_core.judging.weights import Source, locate, read_tensors

ORIGINAL = "stylegan-v-original"
"""Name of the geometry that StyleGAN-V's TorchScript file has inside."""

WEIGHTS = Source(
    part="weights",
    hub=None,
    files=(("i3d_pretrained_400.safetensors",), ("i3d_pretrained_400.pt",), ("model_rgb.pth",)),
    size=51_000_000,
    licence="Apache-2.0 (DeepMind's Kinetics I3D); the conversion states none",
    address="github.com/songweige/TATS, tats/fvd/i3d_pretrained_400.pt",
)
TORCHSCRIPT = Source(
    part="weights",
    hub=None,
    files=(("i3d_torchscript.pt",),),
    size=51_000_000,
    licence="Apache-2.0 (DeepMind's Kinetics I3D); the conversion states none",
    address="github.com/universome/stylegan-v, i3d_torchscript.pt",
)


class I3DFeatures(FeatureExtractor):
    """One row of 400 logits per clip of exactly `frames` frames (FVD of other lengths is another number)."""

    name = "i3d"

    def __init__(self, net: nn.Module, files: Sequence[Path], geometry: Geometry = "styleganv", frames: int = 16):
        if geometry not in GEOMETRIES:
            raise ValueError(f"geometry={geometry!r}; there are {', '.join(GEOMETRIES)}")
        _enough(frames)
        super().__init__(net, files, {"geometry": geometry, "frames": frames})
        self.geometry: Geometry = geometry
        self.frames = frames

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        geometry: Geometry = "styleganv",
        frames: int = 16,
        device: str | torch.device = "cpu",
    ) -> "I3DFeatures":
        """`weights` a file, a folder or a hub id. FileNotFoundError or ValueError as `locate` and `fill` raise them."""
        (path,) = locate(WEIGHTS, weights)
        with torch.device("meta"):
            net = I3D()
        fill_without_counters(net, i3d_state(read_tensors(path)), str(path))
        return cls(net, (path,), geometry, frames).to(device)

    @property
    def column(self) -> str:
        return f"{self.name}[{self.geometry},{self.frames}f]"

    def extract(self, frames: Frames) -> Float[Tensor, "1 400"]:
        _exactly(frames, self.frames)
        return self.model(i3d_input(frames.to(self.device), self.geometry))


class TorchScriptI3DFeatures(FeatureExtractor):
    """StyleGAN-V's own detector, which rescales and squashes inside; for numbers beside that paper's.

    TorchScript is not unpickled, but it is a program: load a file only from someone you trust. torch deprecates it, so
    `I3DFeatures`, whose logits are almost the same, is the default.
    """

    name = "i3d"

    def __init__(self, net: nn.Module, files: Sequence[Path], frames: int = 16):
        _enough(frames)
        super().__init__(net, files, {"geometry": ORIGINAL, "frames": frames})
        self.frames = frames

    @classmethod
    def load(
        cls, weights: str | Path | None = None, frames: int = 16, device: str | torch.device = "cpu"
    ) -> "TorchScriptI3DFeatures":
        """`weights` a file, a folder or a hub id; FileNotFoundError if there is none."""
        (path,) = locate(TORCHSCRIPT, weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            net = torch.jit.load(path, map_location="cpu")
        return cls(net, (path,), frames).to(device)

    @property
    def column(self) -> str:
        return f"{self.name}[{ORIGINAL},{self.frames}f]"

    def extract(self, frames: Frames) -> Float[Tensor, "1 400"]:
        _exactly(frames, self.frames)
        clip = rearrange(levels(frames).to(self.device), "f c h w -> 1 c f h w").float()
        return self.model(clip, rescale=True, resize=True, return_features=True)


def _enough(frames: int) -> None:
    if frames < FEWEST_FRAMES:
        raise ValueError(f"frames={frames}; I3D needs at least {FEWEST_FRAMES}")


def _exactly(frames: Frames, wanted: int) -> None:
    if len(frames) != wanted:
        raise ValueError(
            f"a clip of {len(frames)} frames where {wanted} are expected; take frames[even_frames(f, {wanted})]"
        )
