"""The page that judges open: one file, samples and all, with nothing in it that says which model is which."""

import base64
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from benchmarks.evaluation.human.pairs import Pair, Study
from benchmarks.evaluation.report.media import FPS, TINY, scaled
from seppo_core.report.html import Html
from seppo_core.report.page import document

HERE = Path(__file__).parent
QUESTION = "Which of the two is better?"
QUALITY = 95

Read = Callable[[str, Pair], UInt8[Tensor, "f 3 h w"]]
"""Frames of a model's sample in a pair."""


def ab_page(study: Study, read: Read, title: str, question: str = QUESTION, largest: int = 512) -> Html:
    """The document; samples wider than `largest` pixels are scaled down to it."""
    pairs = [
        {
            "id": p.id,
            "prompt": p.prompt,
            "left": _media(read(p.left, p), largest),
            "right": _media(read(p.right, p), largest),
        }
        for p in study.pairs
    ]
    content = {"study": study.id, "fps": FPS, "pairs": pairs}
    return document(
        HERE / "ab.html", [HERE / "ab.css"], HERE / "ab.js", title=title, question=question, count=len(pairs),
        content=script_json(content),
    )  # fmt: skip


def script_json(content: object) -> Html:
    """JSON that no text in it can end the script element of, or begin a comment in."""
    text = json.dumps(content, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(text)


def _media(frames: UInt8[Tensor, "f 3 h w"], largest: int) -> dict[str, str | int]:
    """A picture, or the frames of a clip in rows in one.

    The sheet is about square: a JPEG has at most 65500 pixels a side, and browsers shrink or drop pictures long before.
    """
    pixels = rearrange(frames, "f c h w -> f h w c").numpy()
    height, width = pixels.shape[1:3]
    if max(height, width) > largest:
        pixels = scaled(pixels, max(1, round(width * largest / max(height, width))))
        height, width = pixels.shape[1:3]
    tiny = max(height, width) <= TINY
    count = len(pixels)
    columns = min(count, math.ceil(math.sqrt(count * height / width)))
    rows = math.ceil(count / columns)
    empty = np.zeros((rows * columns - count, height, width, 3), dtype=np.uint8)
    sheet = rearrange(np.concatenate([pixels, empty]), "(r c) h w rgb -> (r h) (c w) rgb", c=columns)
    file = io.BytesIO()
    options = {"format": "PNG"} if tiny else {"format": "JPEG", "quality": QUALITY, "subsampling": 0}
    Image.fromarray(sheet).save(file, **options)
    kind = "png" if tiny else "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"uri": uri, "frames": count, "columns": columns, "width": width, "height": height}
