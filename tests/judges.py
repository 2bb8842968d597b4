"""Judges of previews, and runs that they have judged."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seppo_core.config.training import PreviewConfig
from seppo_core.run.previews import read_previews

PROMPTS = ("a red wall", "a blue wall")
PROCESS = """
import json, pathlib, sys
from PIL import Image
if "--describe" in sys.argv:
    print(json.dumps({"name": "Red", "kinds": ["image"], "columns": {"score": {}}}))
    sys.exit()
if pathlib.Path(sys.argv[1]).exists():
    sys.exit("the card is gone")
for line in sys.stdin:
    ask = json.loads(line)
    red = Image.open(ask["file"]).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))[0]
    print(json.dumps({"id": ask["id"], "scores": {"score": red}}), flush=True)
"""
"""A judge by redness, which fails as long as the file that it is given exists."""


def redness(pixels: Tensor, prompts: list[str]) -> Tensor:
    return pixels[:, 0].flatten(1).mean(1)


def failing(pixels: Tensor, prompts: list[str]) -> Tensor:
    raise RuntimeError("the judge is ill")


def colour_of_prompt(pixels: Tensor, prompts: list[str]) -> Tensor:
    """Does not judge anything but red walls."""
    if any("red" not in prompt for prompt in prompts):
        raise ValueError("no red in it")
    return redness(pixels, prompts)


def judged(judge: str = "redness", **changes) -> PreviewConfig:
    """Previews of two prompts that a judge of this file scores."""
    return PreviewConfig(prompts=PROMPTS, judge=f"{__name__}:{judge}", **changes)


def process_judge(folder: Path) -> tuple[str, Path]:
    """The judge `PROCESS`, and the file that makes it fail."""
    script, ill = folder / "red.py", folder / "ill"
    script.write_text(PROCESS)
    return f"red={sys.executable} {script} {ill}", ill


def assert_scored_alike(run: Path, other: Path) -> None:
    """Both have the same previews, with the same scores but for rounding, and both keep the best of them."""
    ours, theirs = read_previews(run), read_previews(other)
    assert [one.update for one in ours.all] == [one.update for one in theirs.all]
    for a, b in zip(ours.all, theirs.all, strict=True):
        torch.testing.assert_close(torch.tensor(a.scores), torch.tensor(b.scores), rtol=0, atol=0.01)
    for previews in (ours, theirs):
        assert previews.best() is previews.best(kept_alone=False) is not None
        assert max(one.mean.value for one in previews.all[1:]) == pytest.approx(previews.best().mean.value, abs=0)
