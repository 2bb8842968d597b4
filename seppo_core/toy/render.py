"""Clean drawings of the toy attributes: antialiased shapes on flat backgrounds, batched."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seppo_core.toy.captions import ATTRIBUTES, COLOURS, Modality, indices

SIZE = 32
FRAMES = 8
RADII = torch.tensor([7.0, 13.0])  # small and large pictures
CLIP_RADIUS = 9.0
SPEED = 2.0  # pixels per frame

RGB = {
    "red": (0.9, 0.1, 0.1), "green": (0.1, 0.75, 0.15), "blue": (0.15, 0.2, 0.95), "yellow": (0.95, 0.9, 0.1),
    "magenta": (0.9, 0.15, 0.85), "cyan": (0.1, 0.85, 0.9),
    "black": (0.0, 0.0, 0.0), "grey": (0.5, 0.5, 0.5), "white": (1.0, 1.0, 1.0), "brown": (0.4, 0.25, 0.1),
}  # fmt: skip
HEADINGS = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])  # left, right


def caption_indices(modality: Modality, captions: Sequence[str]) -> Int[Tensor, "n a"]:
    """Attribute indices of each caption, in the order of `captions.names`."""
    return torch.tensor([indices(modality, caption) for caption in captions]).reshape(len(captions), -1)


def palette(names: Sequence[str]) -> Float[Tensor, "k 3"]:
    """Colours by name, in [-1, 1]."""
    return torch.tensor([RGB[name] for name in names]) * 2 - 1


def _distances(x: Tensor, y: Tensor, r: Tensor) -> Float[Tensor, "shape n h w"]:
    """Signed distance in pixels to circle, square, triangle, cross, ring: below zero inside."""
    far = torch.sqrt(x**2 + y**2 + 1e-9)
    wide, tall = x.abs(), y.abs()
    triangle = torch.maximum(y - 0.85 * r, (2 * wide - y - r) / 5**0.5)
    bar = 0.36 * r
    cross = torch.minimum(torch.maximum(wide - r, tall - bar), torch.maximum(tall - r, wide - bar))
    ring = (far - 0.74 * r).abs() - 0.26 * r
    return torch.stack([far - r, torch.maximum(wide, tall) - 0.85 * r, triangle, cross, ring])


def draw(
    colour: Int[Tensor, " n"],
    shape: Int[Tensor, " n"],
    background: Int[Tensor, " n"],
    centre: Float[Tensor, "n 2"],
    radius: Float[Tensor, " n"],
    backgrounds: Sequence[str],
) -> Float[Tensor, "n 3 32 32"]:
    """Pixels in [-1, 1] of one shape each; `centre` is (x, y) in pixels from the top left corner, y down."""
    grid = torch.arange(SIZE) + 0.5
    x = grid[None, None, :] - centre[:, 0, None, None]
    y = grid[None, :, None] - centre[:, 1, None, None]
    x, y = torch.broadcast_tensors(x, y)
    distance = _distances(x, y, radius[:, None, None])[shape, torch.arange(len(shape))]
    cover = (0.5 - distance).clamp(0, 1)[:, None]
    front = palette(COLOURS)[colour][:, :, None, None]
    back = palette(backgrounds)[background][:, :, None, None]
    return back + cover * (front - back)


def clean_images(attributes: Int[Tensor, "n 4"]) -> Float[Tensor, "n 3 32 32"]:
    """The one clean picture of each choice of colour, shape, background and size, in the middle."""
    colour, shape, background, size = attributes.unbind(1)
    centre = torch.full((len(attributes), 2), SIZE / 2)
    return draw(colour, shape, background, centre, RADII[size], ATTRIBUTES["image"]["background"])


def positions(direction: Int[Tensor, " n"], offset: Float[Tensor, "n 2"]) -> Float[Tensor, "n f 2"]:
    """Centre in each frame of a thing that crosses the middle of the frame at `SPEED`; `offset` moves its whole way."""
    time = torch.arange(FRAMES) - FRAMES / 2
    return SIZE / 2 + offset[:, None] + SPEED * time[None, :, None] * HEADINGS[direction][:, None]


def clips(attributes: Int[Tensor, "n 4"], centres: Float[Tensor, "n f 2"]) -> Float[Tensor, "n 3 f 32 32"]:
    """Clips of colour, shape, (direction,) background with the given centres per frame."""
    n, frames = centres.shape[:2]
    colour, shape, _, background = attributes.repeat_interleave(frames, 0).unbind(1)
    radius = torch.full((n * frames,), CLIP_RADIUS)
    drawn = draw(colour, shape, background, centres.flatten(0, 1), radius, ATTRIBUTES["video"]["background"])
    return drawn.unflatten(0, (n, frames)).movedim(1, 2)


def clean_clips(attributes: Int[Tensor, "n 4"]) -> Float[Tensor, "n 3 f 32 32"]:
    """The clean clip of each choice, on the middle way."""
    return clips(attributes, positions(attributes[:, 2], torch.zeros(len(attributes), 2)))
