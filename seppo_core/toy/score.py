"""The exact preference score R in [0, 1] of a toy picture or clip for its caption: no learned judge.

A picture is compared with every clean drawing; the nearest one (least mean squared error, pixels in [-1, 1]) says what
the picture shows, and the error to it how well it is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from seppo_core.toy.captions import ATTRIBUTES, sizes
from seppo_core.toy.render import (
    CLIP_RADIUS,
    FRAMES,
    HEADINGS,
    SIZE,
    SPEED,
    caption_indices,
    clean_images,
    draw,
)

SOFTNESS = 0.08  # mean squared error at which the appearance part falls to 1/e
GRID = torch.arange(6.0, 27.0, 2.0)  # centres, in pixels, at which a thing is looked for in a frame


@dataclass(frozen=True)
class Parts:
    """The score and what it is made of, each (n,) in [0, 1]; `motion` is None for pictures.

    `each` is the share of frames in which an attribute alone is right: colour, shape, background, in pictures size.
    """

    score: Float[Tensor, " n"]
    attributes: Float[Tensor, " n"]
    appearance: Float[Tensor, " n"]
    each: Float[Tensor, "n a"]
    motion: Float[Tensor, " n"] | None = None


def _nearest(pixels: Float[Tensor, "n 3 h w"], drawings: Float[Tensor, "k d"]) -> tuple[Tensor, Tensor]:
    """Index of the nearest drawing of each picture and the mean squared error to it."""
    flat = pixels.flatten(1).float().cpu()
    found = []
    for part in flat.split(1024):
        distance = torch.addmm(drawings.square().sum(1)[None], part, drawings.T, alpha=-2)
        index = distance.argmin(1)
        # taken again from the difference: the expanded square loses digits where the match is close
        found.append((index, (part - drawings[index]).square().mean(1)))
    index, error = zip(*found, strict=True)
    return torch.cat(index), torch.cat(error)


@cache
def _image_drawings() -> tuple[Int[Tensor, "k 4"], Float[Tensor, "k d"]]:
    attributes = torch.tensor(list(product(*map(range, sizes("image")))))
    return attributes, clean_images(attributes).flatten(1)


@cache
def _frame_drawings() -> tuple[Int[Tensor, "k 3"], Float[Tensor, "k 2"], Float[Tensor, "k d"]]:
    """Colour, shape and background, centre, and drawing at half size, at every place of the search grid."""
    colours, shapes, _, backgrounds = map(range, sizes("video"))
    looks = torch.tensor(list(product(colours, shapes, backgrounds)))
    places = torch.cartesian_prod(GRID, GRID)
    looks, centres = looks.repeat_interleave(len(places), 0), places.repeat(len(looks), 1)
    radius = torch.full((len(looks),), CLIP_RADIUS)
    parts = zip(looks.split(1024), centres.split(1024), radius.split(1024), strict=True)
    drawings = [
        avg_pool2d(draw(*look.unbind(1), centre, r, ATTRIBUTES["video"]["background"]), 2).flatten(1)
        for look, centre, r in parts
    ]
    return looks, centres, torch.cat(drawings)


def _check(pixels: Tensor, captions: Sequence[str], shape: tuple[int, ...]) -> None:
    if tuple(pixels.shape[1:]) != shape:
        raise ValueError(
            f"pixels of shape {tuple(pixels.shape)} cannot be scored; give (n, {', '.join(map(str, shape))})"
        )
    if len(pixels) != len(captions):
        raise ValueError(f"{len(pixels)} samples but {len(captions)} captions; give one caption per sample")


def image_parts(pixels: Float[Tensor, "n 3 32 32"], captions: Sequence[str]) -> Parts:
    """R = ½ share of right attributes + ½ exp(-error / 0.08), both from the nearest clean drawing."""
    _check(pixels, captions, (3, SIZE, SIZE))
    shown, drawings = _image_drawings()
    index, error = _nearest(pixels, drawings)
    each = (shown[index] == caption_indices("image", captions)).float()
    right = each.mean(1)
    appearance = torch.exp(-error / SOFTNESS)
    return Parts(0.5 * right + 0.5 * appearance, right, appearance, each)


def video_parts(pixels: Float[Tensor, "n 3 f 32 32"], captions: Sequence[str]) -> Parts:
    """R = 0.4 attributes + 0.3 appearance + 0.3 motion.

    Attributes (colour, shape, background) and appearance are means over frames, each judged by its nearest clean
    drawing wherever the thing stands. Motion is 1 - |v - v_caption| / |v_caption|, at least 0, with the velocity v the
    least-squares slope of the found centres: 1 for the motion asked for, 0 for standing still or another direction.
    """
    _check(pixels, captions, (3, FRAMES, SIZE, SIZE))
    looks, centres, drawings = _frame_drawings()
    index, error = _nearest(avg_pool2d(rearrange(pixels.float().cpu(), "n c f h w -> (n f) c h w"), 2), drawings)
    wanted = caption_indices("video", captions)
    each = (rearrange(looks[index], "(n f) a -> n f a", f=FRAMES) == wanted[:, None, [0, 1, 3]]).float()
    right = each.mean((1, 2))
    appearance = rearrange(torch.exp(-error / SOFTNESS), "(n f) -> n f", f=FRAMES).mean(1)
    time = torch.arange(FRAMES) - (FRAMES - 1) / 2
    way = rearrange(centres[index], "(n f) xy -> n f xy", f=FRAMES)
    velocity = torch.einsum("nfx,f->nx", way, time) / time.square().sum()
    miss = (velocity - SPEED * HEADINGS[wanted[:, 2]]).norm(dim=1) / SPEED
    motion = (1 - miss).clamp(min=0)
    return Parts(0.4 * right + 0.3 * appearance + 0.3 * motion, right, appearance, each.mean(1), motion)


def score_images(pixels: Float[Tensor, "n 3 32 32"], captions: Sequence[str]) -> Float[Tensor, " n"]:
    """R of each picture (pixels in [-1, 1]) for its caption; see `image_parts`."""
    return image_parts(pixels, captions).score


def score_videos(pixels: Float[Tensor, "n 3 f 32 32"], captions: Sequence[str]) -> Float[Tensor, " n"]:
    """R of each clip (pixels in [-1, 1]) for its caption; see `video_parts`."""
    return video_parts(pixels, captions).score
