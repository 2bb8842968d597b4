"""Frames as metrics take them: (f, 3, h, w), uint8 or floating point in [0, 1]."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

Frames = Float[Tensor, "f 3 h w"] | UInt8[Tensor, "f 3 h w"]


def unit(frames: Frames) -> Float[Tensor, "f 3 h w"]:
    """Frames as float32 in [0, 1]. Raises ValueError for another shape, type or range."""
    _check(frames)
    return frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()


def levels(frames: Frames) -> UInt8[Tensor, "f 3 h w"]:
    """Frames as the 8-bit values that a PNG holds; floating point is rounded to the nearest."""
    _check(frames)
    return frames if frames.dtype == torch.uint8 else (frames.float().clamp(0, 1) * 255).round().to(torch.uint8)


def same_shape(frames: Frames, reference: Frames) -> None:
    """Raises ValueError if two clips cannot be compared frame by frame."""
    if frames.shape != reference.shape:
        raise ValueError(
            f"frames of shape {tuple(frames.shape)} against a reference of {tuple(reference.shape)}; "
            "bring both to one size and number of frames first (even_frames, cover_crop)"
        )


def even_frames(length: int, count: int) -> Int[Tensor, " count"]:
    """Indices of `count` frames spread evenly over a clip of `length`, first and last included: round(i(L-1)/(n-1)).

    Halves are rounded to even, as Python and numpy do. Raises ValueError for fewer than two frames wanted, or more than
    there are.
    """
    if not 2 <= count <= length:
        raise ValueError(f"{count} frames of a clip of {length}; take between 2 and {length}")
    return torch.tensor([round(i * (length - 1) / (count - 1)) for i in range(count)])


def _check(frames: Tensor) -> None:
    if frames.ndim != 4 or frames.shape[1] != 3 or len(frames) == 0:
        raise ValueError(f"frames of shape {tuple(frames.shape)}; a clip is (f, 3, h, w) with at least one frame")
    if frames.dtype == torch.uint8:
        return
    if not frames.is_floating_point():
        raise ValueError(f"frames of type {frames.dtype}; give uint8, or floating point in [0, 1]")
    low, high = frames.min().item(), frames.max().item()
    # written so that NaN fails too; the margin lets interpolation overshoot by a rounding error
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"frames reach from {low:.3g} to {high:.3g}; floating point frames lie in [0, 1]")
