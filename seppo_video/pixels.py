"""From a decoded frame to the RGB that a viewer would see: colours, transparency, the shape of pixels, orientation."""

from fractions import Fraction

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

UNSPECIFIED = 2
HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions of high dynamic range, by their number in ITU-T H.273."""
BT2020 = (9, 10)
"""Matrices of BT.2020, by their number in ITU-T H.273."""
NEARLY_SQUARE = Fraction(103, 100)
"""Pixels up to this ratio are taken as square: encoders that round a size to even numbers note ratios such as 639:640,
and the narrowest pixels that were ever meant, 16:15, lie beyond."""
WIDEST = 4
"""Ratio of pixels that only a damaged header has."""
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Codecs whose transparency FFmpeg's own decoders leave out, with the decoder that does not."""


def hdr_reason(frame: av.VideoFrame) -> str | None:
    """Why the colours of a frame cannot be told without tone mapping, and the cure; None for standard dynamic range."""
    name = HDR.get(int(frame.color_trc))
    deep = any(component.bits > 8 for component in frame.format.components)
    if name is None and (frame.color_trc != UNSPECIFIED or frame.colorspace not in BT2020 or not deep):
        return None
    what = f"HDR ({name})" if name else "BT.2020 colour in more than 8 bits without its transfer function, HDR or not"
    return f"it is {what}, and how to map its tones is a choice; convert it to 8 bits in BT.709 first"


def pixel_aspect(stream: av.VideoStream) -> Fraction:
    """Width of a pixel by its height; 1 if it is square, nearly so, or not told. ValueError for an absurd one."""
    aspect = stream.sample_aspect_ratio
    if not aspect or 1 / NEARLY_SQUARE <= aspect <= NEARLY_SQUARE:
        return Fraction(1)
    if not Fraction(1, WIDEST) <= aspect <= WIDEST:
        raise ValueError(f"its pixels are {aspect.numerator}:{aspect.denominator}, which no camera makes")
    return Fraction(aspect)


def decoder(stream: av.VideoStream) -> av.VideoCodecContext | None:
    """A new decoder that keeps the transparency of `stream`; None if FFmpeg's own does. ValueError if there is none."""
    name = WITH_ALPHA.get(stream.codec_context.name)
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if name is None or tags.get("alpha_mode") != "1":
        return None
    if name not in av.codecs_available:
        raise ValueError(f"it is transparent, which needs {name}, and this PyAV lacks it; pip install --upgrade av")
    return av.CodecContext.create(name, "r")


def to_rgb(frame: av.VideoFrame, aspect: Fraction = Fraction(1)) -> UInt8[np.ndarray, "h w 3"]:
    """A decoded frame upright, with square pixels and, if it is transparent, over white.

    Pixels that are `aspect` times as wide as high change the frame's width, as players do (Lanczos).
    """
    if any(component.is_alpha for component in frame.format.components):
        rgba = frame.to_ndarray(format="rgba").astype(np.uint16)
        color, alpha = rgba[..., :3], rgba[..., 3:]
        pixels = ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    else:
        pixels = frame.to_ndarray(format="rgb24")
    if aspect != 1:
        height, width = pixels.shape[:2]
        shown = max(1, round(width * aspect)), height
        pixels = np.asarray(Image.fromarray(pixels).resize(shown, Image.Resampling.LANCZOS))
    # both count degrees anticlockwise
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))
