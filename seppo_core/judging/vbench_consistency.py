"""VBench's weight-light dimensions (Huang et al. 2024): temporal flickering, subject and background consistency.

Frames in, numbers out, each in [0, 1] and not rescaled by VBench's minima and maxima, which are in `VBENCH_RANGE`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig

from seppo_core.judging.aesthetic import vision_tower
from seppo_core.judging.layers import fill_without_counters
from seppo_core.judging.metric import ClipMetric
from seppo_core.judging.preprocess import CLIP_MEAN, CLIP_STD
from seppo_core.judging.video_pixels import Frames, levels
from seppo_core.judging.vit import DinoViT, dino_state
from seppo_core.judging.weights import Source, locate, read_tensors

VBENCH_RANGE = {
    "temporal_flickering": (0.6293, 1.0),
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 224

DINO = Source(
    part="weights",
    hub="facebook/dino-vitb16",
    files=(("model.safetensors",), ("pytorch_model.bin",), ("dino_vitbase16_pretrain.pth",)),
    size=343_000_000,
    licence="Apache-2.0",
)
CLIP = Source(
    part="weights",
    hub="openai/clip-vit-base-patch32",
    files=(("model.safetensors",), ("pytorch_model.bin",)),
    size=605_000_000,
    licence="MIT",
)


def flickering(frames: Frames) -> float:
    """(255 - mean |f_i - f_{i+1}|) / 255 on 8-bit values: 1 for a still clip. Motion lowers it as flicker does."""
    _two(frames)
    values = levels(frames).double()
    return 1 - (values[1:] - values[:-1]).abs().mean().item() / 255


def consistency(features: Float[Tensor, "f d"]) -> float:
    """Mean over i ≥ 1 of ½ (max(0, cos(f_i, f_{i-1})) + max(0, cos(f_i, f_0))).

    VBench's total pools the frames of all clips, which for clips of one length is the mean over clips.
    """
    _two(features)
    directions = F.normalize(features.double(), dim=1)
    previous = (directions[1:] * directions[:-1]).sum(1).clamp(min=0)
    first = (directions[1:] @ directions[0]).clamp(min=0)
    return ((previous + first) / 2).mean().item()


def shortest_side(frames: Frames, mode: Literal["bilinear", "bicubic"]) -> Float[Tensor, "f 3 h w"]:
    """Shortest side to 224 without antialias, on floating point values of 0 to 255, then divided by 255.

    As VBench does it: bicubic may overshoot, and nothing is clipped.
    """
    values = levels(frames).float()
    height, width = values.shape[-2:]
    if width <= height:
        size = (int(SIDE * height / width), SIDE)
    else:
        size = (SIDE, int(SIDE * width / height))
    return F.interpolate(values, size, mode=mode, align_corners=False, antialias=False) / 255


def dino_input(frames: Frames) -> Float[Tensor, "f 3 h w"]:
    """Bilinear to the shortest side, no crop: the network sees the whole frame."""
    return _normalise(shortest_side(frames, "bilinear"), IMAGENET_MEAN, IMAGENET_STD)


def clip_input(frames: Frames) -> Float[Tensor, "f 3 224 224"]:
    """Bicubic to the shortest side, centre cut out."""
    x = shortest_side(frames, "bicubic")
    top, left = (round((side - SIDE) / 2) for side in x.shape[-2:])
    return _normalise(x[..., top : top + SIDE, left : left + SIDE], CLIP_MEAN, CLIP_STD)


class TemporalFlickering(ClipMetric):
    """Needs no weights; VBench runs it on prompts whose clips ought to be still."""

    name = "temporal_flickering"

    def __init__(self) -> None:
        super().__init__(nn.Module(), (), {})

    def measure(self, frames: Frames, prompt: str = "") -> dict[str, float]:
        return {self.column: flickering(frames)}


class _Consistency(ClipMetric):
    def __init__(self, net: nn.Module, files: Sequence[Path], batch_size: int = 16):
        super().__init__(net, files, {})
        self.batch_size = batch_size

    def measure(self, frames: Frames, prompt: str = "") -> dict[str, float]:
        _two(frames)
        with torch.no_grad():
            parts = [self.look(part.to(self.device)).float().cpu() for part in frames.split(self.batch_size)]
        return {self.column: consistency(torch.cat(parts))}

    def look(self, frames: Frames) -> Float[Tensor, "f d"]:
        """One feature per frame."""
        raise NotImplementedError


class SubjectConsistency(_Consistency):
    """DINO ViT-B/16 features: does the subject stay the same thing?"""

    name = "subject_consistency"

    @classmethod
    def load(cls, weights: str | Path | None = None, device: str | torch.device = "cpu") -> "SubjectConsistency":
        """`weights` DINO's own file, a transformers folder or a hub id (343 MB, Apache-2.0)."""
        (path,) = locate(DINO, weights)
        with torch.device("meta"):
            net = DinoViT()
        fill_without_counters(net, dino_state(read_tensors(path)), str(path))
        return cls(net, (path,)).to(device)

    def look(self, frames: Frames) -> Float[Tensor, "f 768"]:
        return self.model(dino_input(frames))


class BackgroundConsistency(_Consistency):
    """CLIP ViT-B/32 image embeddings: does the scene stay the same place?"""

    name = "background_consistency"

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        config: CLIPConfig | None = None,
    ) -> "BackgroundConsistency":
        """`weights` a file under transformers' or open_clip's names, a folder or a hub id (605 MB, MIT).

        OpenAI's own ViT-B-32.pt is a TorchScript archive and is not read.
        """
        (path,) = locate(CLIP, weights)
        return cls(vision_tower(path, config or clip_b_32(), torch.float32), (path,)).to(device)

    def look(self, frames: Frames) -> Float[Tensor, "f 512"]:
        return self.model(pixel_values=clip_input(frames)).image_embeds


def clip_b_32() -> CLIPConfig:
    """CLIP ViT-B/32 as OpenAI trained it, with the sigmoid approximation of GELU; 151 million parameters."""
    return CLIPConfig(
        vision_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "patch_size": 32,
            "hidden_act": "quick_gelu",
        },
        projection_dim=512,
    )


def _normalise(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (x - x.new_tensor(mean)[:, None, None]) / x.new_tensor(std)[:, None, None]


def _two(rows: Tensor) -> None:
    if len(rows) < 2:
        raise ValueError(f"a clip of {len(rows)} frame(s) has no change over time; at least 2 are needed")
