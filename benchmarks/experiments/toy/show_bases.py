"""`python -m benchmarks.experiments.toy.show_bases MODALITY` draws a base's samples and tells what is right in them.

The base that ships, the sampler of its configs' previews, and the noises that the tables of docs/which_method.md are
judged with. The grid goes to docs/figures, the table into docs/which_method.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.experiments.toy.arms import ARMS, ROOT
from benchmarks.experiments.toy.demo_picture import GAP, INK, LEFT, LINE, PAPER, QUIET, SIDE, wrapped
from benchmarks.experiments.toy.judge import Judge
from benchmarks.experiments.toy.plan import arm_config
from benchmarks.experiments.toy.publish import between
from benchmarks.experiments.toy.task.mixture import draw_samples
from benchmarks.experiments.toy.task.right import shares
from seppo_core.io.atomic import save_text
from seppo_core.report.text_table import markdown_table
from seppo_core.toy.captions import Modality, held_out

NOISE, TABLED = 1000, 4
"""Seed of a prompt's first sample, and samples a prompt in the table."""
DRAWN, SHOWN = {"image": 6, "video": 4}, {"image": (8, 6), "video": (4, 3)}
"""Samples a prompt; prompts and samples a prompt in the grid."""


def grid(prompts: Sequence[str], samples: Tensor, scores: Tensor) -> Image.Image:
    """Samples (prompts, n, [f,] h, w, 3) uint8, a row a prompt, its caption beside them; of clips a row a clip."""
    moving, font = samples.ndim == 6, ImageFont.load_default(13)
    rows = samples.flatten(0, 1) if moving else samples
    gap = 1 if moving else GAP
    image = Image.new("RGB", (LEFT + rows.shape[1] * (SIDE + gap) + GAP, GAP + len(rows) * (SIDE + LINE + GAP)), PAPER)
    drawing = ImageDraw.Draw(image)
    for number, row in enumerate(rows.numpy()):
        prompt, y = number // (len(rows) // len(prompts)), GAP + number * (SIDE + LINE + GAP)
        lines = "\n".join(wrapped(prompts[prompt], LEFT - 2 * GAP, font))
        drawing.multiline_text((GAP, y + SIDE // 3), lines, INK, font, spacing=2)
        for column, one in enumerate(row):
            x = LEFT + column * (SIDE + gap)
            image.paste(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, y))
        for column, score in enumerate(scores.reshape(len(rows), -1)[number].tolist()):
            drawing.text((LEFT + column * (SIDE + gap) + SIDE // 2, y + SIDE), f"{score:.2f}", QUIET, font, anchor="ma")
    return image


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modality", choices=get_args(Modality))
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the page and of its figures")
    chosen = parser.parse_args(argv)
    modality, prompts, page = chosen.modality, held_out(chosen.modality), chosen.docs / "which_method.md"
    judge = Judge(modality, arm_config(modality, ARMS["sft"]), prompts, [], 64 if modality == "image" else 16)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.safetensors"
        judge.score(judge.base, path, [NOISE + index for index in range(DRAWN[modality])], lambda _: None)
        drawn = load_file(path)
    flat = rearrange(drawn["samples"][:, :TABLED], "p s ... c -> (p s) c ...").float() / 127.5 - 1
    each = [prompt for prompt in prompts for _ in range(TABLED)]
    data = draw_samples(modality, each * 4, torch.Generator().manual_seed(0))
    base, mixture = shares(modality, flat, each), shares(modality, data, each * 4)
    table = markdown_table(("right", "base", "its data"), [(n, f"{base[n]:.2f}", f"{mixture[n]:.2f}") for n in base])
    count, columns = SHOWN[modality]
    rows = [index * len(prompts) // count + index % (len(prompts) // count) for index in range(count)]
    image = grid([prompts[row] for row in rows], drawn["samples"][rows, :columns], drawn["scores"][rows, :columns])
    (chosen.docs / "figures").mkdir(parents=True, exist_ok=True)
    image.save(chosen.docs / "figures" / f"base_{modality}.png", optimize=True)
    save_text(page, between(page.read_text(encoding="utf-8"), f"base-{modality}", "\n".join(table)))
    print("\n".join(table))


if __name__ == "__main__":
    main()
