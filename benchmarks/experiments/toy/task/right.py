"""What is right in samples of the embedded task, each thing by itself."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from seppo_core.toy.captions import ATTRIBUTES, Modality
from seppo_core.toy.render import caption_indices, clean_images
from seppo_core.toy.score import image_parts, video_parts

NEAR = 2.0
"""Pixels that a thing's centre may be away from where it belongs."""


def middle(pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2"]:
    """Centre (x, y) of what differs from the upper corners' colour by a third of the range in some channel."""
    ground = torch.cat([pixels[:, :, :2, :2], pixels[:, :, :2, -2:]], 3).flatten(2).median(2).values
    thing = ((pixels - ground[:, :, None, None]).abs().amax(1) > 2 / 3).float()
    places = [thing.sum(axis) @ torch.arange(float(thing.shape[1])) for axis in (1, 2)]
    return torch.stack(places, 1) / thing.sum((1, 2)).clamp(min=1)[:, None]


def shares(modality: Modality, pixels: Tensor, prompts: Sequence[str]) -> dict[str, float]:
    """How often each thing alone is right, over samples (n, 3, [f,] 32, 32) in [-1, 1]; then R and its parts.

    Of clips an attribute counts by the share of frames, and a direction is right where the velocity lies nearer to the
    one that is asked for than standing still does.
    """
    parts = image_parts(pixels, prompts) if modality == "image" else video_parts(pixels, prompts)
    names = [name for name in ATTRIBUTES[modality] if name != "direction"]
    found = dict(zip(names, parts.each.mean(0).tolist(), strict=True))
    wanted = caption_indices(modality, prompts)
    if modality == "image":
        for index, size in enumerate(ATTRIBUTES["image"]["size"]):
            found[f"shape, where a {size} one is asked for"] = parts.each[wanted[:, 3] == index, 1].mean().item()
        found["all four"] = (parts.attributes == 1).float().mean().item()
        shown = (parts.each[:, 1] == 1) & (parts.each[:, 3] == 1)
        away = (middle(pixels) - middle(clean_images(wanted))).norm(dim=1)[shown]
        found[f"place within {NEAR:g} pixels, where shape and size are right"] = (away < NEAR).float().mean().item()
    else:
        found["shape in every frame"] = (parts.each[:, 1] == 1).float().mean().item()
        found["direction"] = (parts.motion > 0).float().mean().item()
        found["velocity within a quarter of the one asked for"] = (parts.motion >= 0.75).float().mean().item()
        found["all of it: direction, and the three in most frames"] = (
            ((parts.motion > 0) & (parts.each > 0.5).all(1)).float().mean().item()
        )
        found["motion, a part of R"] = parts.motion.mean().item()
    return found | {"appearance, a part of R": parts.appearance.mean().item(), "R": parts.score.mean().item()}
