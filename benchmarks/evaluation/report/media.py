"""Samples small enough for a page that holds many: tiny ones as they are, larger ones scaled down to JPEG."""

import base64
import io

import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from seppo_core.report.html import Html, element
from seppo_core.report.media import sample

TINY = 64
"""Pixels; up to here every pixel is shown as it is."""
SHARPNESS = 1.5
"""Pixels stored per pixel shown, for screens with more than one dot per pixel."""
LONGEST = 65_500
"""Pixels that a JPEG has at most a side."""
QUALITY = 88
FPS = 8


def shown(frames: UInt8[Tensor, "f 3 h w"], alt: str, width: int) -> Html:
    """A picture (one frame) or a clip that plays in a loop, `width` pixels wide on the page."""
    pixels = rearrange(frames, "f c h w -> f h w c").numpy()
    if max(pixels.shape[1:3]) <= TINY:
        return sample(pixels[0] if len(pixels) == 1 else pixels, alt, width)
    # a clip's frames lie side by side
    small = scaled(pixels, max(1, min(pixels.shape[2], round(width * SHARPNESS), LONGEST // len(pixels))))
    height = round(width * small.shape[1] / small.shape[2])
    if len(small) == 1:
        return element("img", src=jpeg_uri(small[0]), alt=alt, width=width, height=height, loading="lazy")
    strip = jpeg_uri(np.concatenate(list(small), axis=1))
    count = len(small)
    style = (
        f"width:{width}px;height:{height}px;--frames:{count};--run:-{width * count}px;--time:{count / FPS:g}s;"
        f"background-image:url({strip});background-size:{width * count}px {height}px"
    )
    return element("div", class_="clip", role="img", aria_label=alt, style=style)


def scaled(pixels: UInt8[np.ndarray, "f h w 3"], width: int) -> UInt8[np.ndarray, "f h2 width 3"]:
    """Frames scaled to a width, proportions kept."""
    height = max(1, round(width * pixels.shape[1] / pixels.shape[2]))
    size = (width, height)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in pixels])


def jpeg_uri(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """Pixels as a data: URI of a JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
