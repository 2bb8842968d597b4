"""Pictures and clips inside the page itself, as data: URIs, enlarged without smoothing."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seppo_core.report.html import Html, element

Pixels = NDArray[np.uint8]


def png_uri(pixels: Pixels) -> str:
    """Pixels (h, w, 3) uint8 as a data: URI of a PNG.

    Raises ValueError for another shape or type.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"pixels of shape {pixels.shape} and type {pixels.dtype} are not a picture; give (h, w, 3) uint8"
        )
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def picture(pixels: Pixels, alt: str, width: int) -> Html:
    """A picture (h, w, 3), shown `width` pixels wide; pixels stay square and sharp."""
    height = round(width * pixels.shape[0] / pixels.shape[1])
    return element("img", class_="pixels", src=png_uri(pixels), alt=alt, width=width, height=height, loading="lazy")


def clip(frames: Pixels, alt: str, width: int, fps: int = 8) -> Html:
    """A clip (f, h, w, 3) that plays in a loop, in step with every other clip of its length on the page.

    The frames lie side by side in one picture that a stepped CSS animation moves along: it plays without script, and
    all animations of a page share one clock, which animated image files do not.
    """
    count, height, frame_width = frames.shape[:3]
    strip = np.concatenate(list(frames), axis=1)
    shown = round(width * height / frame_width)
    style = (
        f"width:{width}px;height:{shown}px;--frames:{count};--run:-{width * count}px;--time:{count / fps:g}s;"
        f"background-image:url({png_uri(strip)});background-size:{width * count}px {shown}px"
    )
    return element("div", class_="clip pixels", role="img", aria_label=alt, style=style)


def sample(pixels: Pixels, alt: str, width: int) -> Html:
    """A picture or, with a leading frame axis, a clip."""
    return picture(pixels, alt, width) if pixels.ndim == 3 else clip(pixels, alt, width)
