"""The noisy world the bases learn: pictures and clips that often show the wrong thing, or misplaced, or flickering.

A caption's attributes are each wrong one time in five, and three draws in ten are badly made. The better of two such
draws, by the exact score, is a winner; it is far from perfect, as human choices among real samples are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from seppo_core.toy.captions import ATTRIBUTES, Modality, sizes
from seppo_core.toy.render import FRAMES, RADII, SIZE, caption_indices, clips, draw, positions
from seppo_core.toy.score import score_images, score_videos

WRONG = 0.2
BAD = 0.3


def _corrupt(modality: Modality, wanted: Int[Tensor, "n a"], generator: Generator) -> Int[Tensor, "n a"]:
    """Replaces each attribute, with probability WRONG, by another value."""
    counts = torch.tensor(sizes(modality))
    wrong = torch.rand(wanted.shape, generator=generator) < WRONG
    shift = 1 + (torch.rand(wanted.shape, generator=generator) * (counts - 1)).long()
    return torch.where(wrong, (wanted + shift) % counts, wanted)


def _between(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _faults(n: int, kinds: int, generator: Generator) -> list[Float[Tensor, " n"]]:
    """One 0/1 mask per kind of fault; a sample has at most one, and none with probability 1 - BAD."""
    drawn = (torch.rand(n, generator=generator) / BAD * kinds).long()  # kinds and above: no fault
    return [(drawn == kind).float() for kind in range(kinds)]


def draw_images(captions: Sequence[str], generator: Generator) -> Float[Tensor, "n 3 32 32"]:
    """One draw of the mixture per caption, pixels in [-1, 1]. A bad one is misplaced and missized."""
    n = len(captions)
    colour, shape, background, size = _corrupt("image", caption_indices("image", captions), generator).unbind(1)
    (jittered,) = _faults(n, 1, generator)
    centre = SIZE / 2 + jittered[:, None] * _between(-6, 6, (n, 2), generator)
    radius = RADII[size] * (1 + jittered * _between(-0.3, 0.3, (n,), generator))
    return draw(colour, shape, background, centre, radius, ATTRIBUTES["image"]["background"])


def draw_videos(captions: Sequence[str], generator: Generator) -> Float[Tensor, "n 3 f 32 32"]:
    """One draw of the mixture per caption, pixels in [-1, 1]. A bad one shakes, or flickers."""
    n = len(captions)
    attributes = _corrupt("video", caption_indices("video", captions), generator)
    shaking, flickering = _faults(n, 2, generator)
    offset = 2 * torch.randint(-1, 2, (n, 2), generator=generator).float()
    shake = 2 * torch.randn((n, FRAMES, 2), generator=generator)
    pixels = clips(attributes, positions(attributes[:, 2], offset) + shaking[:, None, None] * shake)
    dim = flickering[:, None] * _between(0, 0.5, (n, FRAMES), generator)
    return pixels * (1 - dim[:, None, :, None, None])


def draw_samples(modality: Modality, captions: Sequence[str], generator: Generator) -> Tensor:
    """`draw_images` or `draw_videos`."""
    return draw_images(captions, generator) if modality == "image" else draw_videos(captions, generator)


def score_samples(modality: Modality, pixels: Tensor, captions: Sequence[str]) -> Float[Tensor, " n"]:
    """`score_images` or `score_videos`."""
    return score_images(pixels, captions) if modality == "image" else score_videos(pixels, captions)


@dataclass(frozen=True)
class Pairs:
    """The better and the worse of two draws for each caption; pixels in [-1, 1], scores (n,)."""

    captions: list[str]
    winners: Tensor
    losers: Tensor
    winner_scores: Float[Tensor, " n"]
    loser_scores: Float[Tensor, " n"]


def draw_pairs(modality: Modality, captions: Sequence[str], generator: Generator) -> Pairs:
    """Two draws per caption, set in order by the exact score (on a tie the first draw wins)."""
    first, second = (draw_samples(modality, captions, generator) for _ in range(2))
    first_score, second_score = (score_samples(modality, pixels, captions) for pixels in (first, second))
    swap = second_score > first_score
    wide = swap.reshape(-1, *(1,) * (first.ndim - 1))
    return Pairs(
        captions=list(captions),
        winners=torch.where(wide, second, first),
        losers=torch.where(wide, first, second),
        winner_scores=torch.where(swap, second_score, first_score),
        loser_scores=torch.where(swap, first_score, second_score),
    )
