"""The demo's samples as a picture to pass on: a row an arm, a column a prompt, each with its name; clips play."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.experiments.toy.demo_results import ModalityResult

SHOWN = 8
RULE = "every sixth of the held-out prompts in the task's order, with the first noise; none is selected"
SIDE, GAP = 96, 6
"""Pixels of a sample's side, and between two."""
LEFT, LINE = 150, 16
"""Pixels of the names' column, and of a line of text."""
FRAME = 125
"""Milliseconds of a clip's frame."""
PAPER, INK, QUIET = (251, 250, 247), (29, 32, 38), (99, 105, 117)
IN_TERMINAL = ("base", "sft", "seppo", "anchor_off")
COLUMNS, CELL = 6, 12
"""Samples in a line of a terminal, and columns of each."""

Frames = NDArray[np.uint8]


def shown(result: ModalityResult) -> list[int]:
    """The prompts that stand in every grid; see RULE."""
    return list(range(0, len(result.prompts), max(1, len(result.prompts) // SHOWN)))[:SHOWN]


def save_picture(result: ModalityResult, path: Path) -> None:
    """Writes the grid as PNG, or of clips as a GIF that plays."""
    chosen = shown(result)
    samples = {name: [arm.samples[i, 0] for i in chosen] for name, arm in result.arms.items()}
    moving = next(iter(samples.values()))[0].ndim == 4
    count = len(next(iter(samples.values()))[0]) if moving else 1
    frames = [
        _grid(result, chosen, {name: [one[at] if moving else one for one in row] for name, row in samples.items()})
        for at in range(count)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    if moving:
        frames = [frame.quantize(128, Image.Quantize.FASTOCTREE) for frame in frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=FRAME, loop=0)
    else:
        frames[0].save(path, optimize=True)


def _grid(result: ModalityResult, chosen: Sequence[int], rows: dict[str, list[Frames]]) -> Image.Image:
    font = ImageFont.load_default(13)
    titles = [wrapped(result.prompts[i], SIDE, font) for i in chosen]
    top = LINE * max(map(len, titles)) + 2 * GAP
    size = (LEFT + len(chosen) * (SIDE + GAP), top + len(rows) * (SIDE + LINE + GAP))
    image = Image.new("RGB", size, PAPER)
    drawing = ImageDraw.Draw(image)
    for column, lines in enumerate(titles):
        drawing.multiline_text((LEFT + column * (SIDE + GAP), GAP), "\n".join(lines), INK, font, spacing=2)
    for number, (name, samples) in enumerate(rows.items()):
        arm, y = result.arms[name], top + number * (SIDE + LINE + GAP)
        told = [*wrapped(arm.name, LEFT - 2 * GAP, font), f"mean {arm.mean.value:.2f}"]
        drawing.multiline_text((GAP, y + SIDE // 3), "\n".join(told), INK, font, spacing=2)
        for column, (i, pixels) in enumerate(zip(chosen, samples, strict=True)):
            x = LEFT + column * (SIDE + GAP)
            image.paste(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, y))
            drawing.text((x + SIDE // 2, y + SIDE), f"{arm.scores[i, 0]:.2f}", QUIET, font, anchor="ma")
    return image


def wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """`text` in lines of at most `width` pixels, a longer word alone."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def in_terminal(result: ModalityResult) -> str:
    """Some arms' samples in coloured half blocks, for a terminal that shows 24-bit colours; clips by a middle frame."""
    chosen = shown(result)[:COLUMNS]
    lines = [f"  {number}  {result.prompts[i]}" for number, i in enumerate(chosen, 1)]
    for name in IN_TERMINAL:
        if name not in result.arms:
            continue
        pictures = [result.arms[name].samples[i, 0] for i in chosen]
        pictures = [one if one.ndim == 3 else one[len(one) // 2] for one in pictures]
        small = [np.asarray(Image.fromarray(one).resize((CELL, CELL), Image.Resampling.BOX)) for one in pictures]
        lines.append(f"  {result.arms[name].name}")
        for y in range(0, CELL, 2):
            lines.append("  " + " ".join("".join(map(_block, one[y], one[y + 1])) + "\x1b[0m" for one in small))
    return "\n".join(lines)


def _block(upper: Frames, lower: Frames) -> str:
    front, back = (";".join(map(str, pixel.tolist())) for pixel in (upper, lower))
    return f"\x1b[38;2;{front}m\x1b[48;2;{back}m▀"
