"""The named ways to bring a clip to I3D's 224 × 224; FVD moves by tens between them, so the name goes along.

styleganv  short side to 224 by bilinear interpolation, centre cut out (the default of most recent papers' FVD script)
videogpt   the same after the frames were 8-bit values, as they are in files: for 8-bit frames nothing else
cd-fvd     both sides squashed to 224, proportions lost (TATS, Ge et al. 2024)

None of them antialiases. `stylegan-v-original` leaves it to the TorchScript file of StyleGAN-V, which squashes.
"""

import math
from typing import Literal, get_args

from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from benchmarks.evaluation.metrics.networks.i3d import SIDE
from seppo_core.judging.video_pixels import Frames, levels, unit

Geometry = Literal["styleganv", "videogpt", "cd-fvd"]
GEOMETRIES: tuple[Geometry, ...] = get_args(Geometry)


def i3d_input(frames: Frames, geometry: Geometry) -> Float[Tensor, "1 3 f 224 224"]:
    """A clip as the network takes it, in [-1, 1]. Raises ValueError for an unknown geometry."""
    match geometry:
        case "styleganv":
            scaled = 2 * _cover(unit(frames)) - 1
        case "videogpt":
            scaled = 2 * _cover(unit(levels(frames))) - 1
        case "cd-fvd":
            squashed = F.interpolate(levels(frames).float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
            scaled = 2 * squashed / 255 - 1
        case _:
            raise ValueError(f"geometry={geometry!r}; there are {', '.join(GEOMETRIES)}")
    return rearrange(scaled, "f c h w -> 1 c f h w")


def _cover(x: Float[Tensor, "f 3 h w"]) -> Float[Tensor, "f 3 224 224"]:
    height, width = x.shape[-2:]
    scale = SIDE / min(height, width)
    # rounded up, so that the longer side never falls short of the cut
    size = (SIDE, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), SIDE)
    x = F.interpolate(x, size, mode="bilinear", align_corners=False)
    top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    return x[..., top : top + SIDE, left : left + SIDE]
