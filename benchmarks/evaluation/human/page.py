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
from seppo_core.report.html import Html, element, join
from seppo_core.report.page import HERE as REPORT
from seppo_core.report.page import POLICY

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
    head = join(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html((REPORT / "style.css").read_text(encoding="utf-8"))),
        element("style", Html((HERE / "ab.css").read_text(encoding="utf-8"))),
    )
    body = join(
        _start(title, question, len(pairs)),
        _vote(question),
        _end(),
        element("script", script_json(content), type="application/json", id="study"),
        element("script", Html((HERE / "ab.js").read_text(encoding="utf-8"))),
    )
    return Html(f'<!doctype html>\n<html lang="en"><head>{head}</head><body class="ab">{body}</body></html>\n')


def script_json(content: object) -> Html:
    """JSON that no text in it can end the script element of, or begin a comment in."""
    text = json.dumps(content, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(text)


def _start(title: str, question: str, count: int) -> Html:
    return element(
        "main",
        element("h1", title),
        element("p", f"{count} pairs. You will see a prompt and two samples that two models made of it. {question} "
                     "Judge how well each fits the prompt and how good it looks. Sides are shuffled.", class_="lead"),
        element("form",
                element("label", "Your name or initials ", element("input", id="judge", maxlength=40, required=True,
                                                                   autocomplete="off")),
                element("button", "Start", type="submit", class_="go")),
        element("p", "Keys: ", _key("←"), " left, ", _key("→"), " right, ", _key("↓"), " same, ", _key("Backspace"),
                " back, ", _key("Space"), " stop or play clips, ", _key("S"), " save. Votes stay on this machine until "
                "you save them as a file; reload the page and give the same name to go on.", class_="quiet"),
        id="start",
    )  # fmt: skip


def _vote(question: str) -> Html:
    sides = [
        element("figure", element("div", class_="stage", id=f"{side}-stage"), element("figcaption", name))
        for side, name in (("left", "Left"), ("right", "Right"))
    ]
    buttons = [
        element("button", text, " ", _key(key), type="button", data_choice=choice)
        for text, key, choice in (("Left", "←", "left"), ("Same", "↓", "same"), ("Right", "→", "right"))
    ]
    return element(
        "main",
        element("div", element("progress", id="bar", max=1, value=0), element("span", id="place", aria_live="polite"),
                element("button", "Back", type="button", id="back"),
                element("button", "Pause", type="button", id="pause", hidden=True),
                element("button", "Save CSV", type="button", class_="save"), class_="bar"),
        element("p", id="prompt"),
        element("div", *sides, class_="sides"),
        element("p", question, class_="question"),
        element("div", *buttons, class_="choices"),
        id="vote", hidden=True,
    )  # fmt: skip


def _end() -> Html:
    return element(
        "main",
        element("h1", "Done. Thank you."),
        element("p", "Save your votes and send the file to whoever asked you.", class_="lead"),
        element("button", "Save CSV", type="button", class_="save go"),
        element("button", "Back to the last pair", type="button", id="again"),
        id="end", hidden=True,
    )  # fmt: skip


def _key(name: str) -> Html:
    return element("kbd", name)


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
