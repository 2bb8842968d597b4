"""A run's folder as `train` would leave it, without any training: every sample is one flat colour."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from seppo_core.config.loader import resolved_yaml
from seppo_core.config.training import PreviewConfig
from seppo_core.run.previews import Drawing, PreviewRecord, add_preview
from seppo_image.config import ImageConfig, ImageData
from seppo_image.families.stable_diffusion import StableDiffusionModel

PROMPTS = ("a red wall", 'a <b>blue</b> wall & "more"', "a wall")
COLUMNS = 2


def colour(update: int, row: int, column: int) -> tuple[int, int, int]:
    """Of that sample: no two have the same."""
    return 40 + update * 20, 30 + 80 * row, 60 + 120 * column


def config_of(folder: Path, size: int = 16) -> ImageConfig:
    return ImageConfig(
        run=str(folder),
        model=StableDiffusionModel(base="a/base"),
        data=ImageData(source="s", cache="c", height=size, width=size),
        preview=PreviewConfig(prompts=PROMPTS, every=4, per_prompt=COLUMNS, judge="a:b", steps=5),
    )


def write_run(folder: Path, updates: int = 8, size: int = 16, frames: int = 1, scored: bool = True) -> Path:
    """A run of twelve updates of which `updates` are done, with a preview of the start and of every fourth one."""
    (folder / "previews").mkdir(parents=True)
    config = config_of(folder, size)
    values = yaml.safe_load(resolved_yaml(config))
    values["loop"] |= {"iterations": 3, "updates_per_iteration": 4, "batch_size": 8}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    lines = [
        {"update": n, "loss": 0.69 - 0.01 * n, "winner_error": 0.2, "seconds": 3.0, "reference": 0, "winner_gap": 0.0}
        for n in range(1, updates + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "events.jsonl").write_text(json.dumps({"time": 1.0, "event": "started"}) + "\n")
    drawing = replace(Drawing.of(config), frames=frames)
    for update in range(0, updates + 1, 4):
        pictures = [picture(update, size, frame) for frame in range(frames)]
        file = f"update-{update:06d}." + ("png" if frames == 1 else "webp")
        more = {} if frames == 1 else {"save_all": True, "append_images": pictures[1:], "lossless": True}
        pictures[0].save(folder / "previews" / file, **more)
        scores = tuple(tuple(0.1 * row + 0.01 * column * update for column in range(COLUMNS)) for row in range(3))
        record = PreviewRecord(update, file, update > 0, drawing, *(("a:b", "f", scores) if scored else ()))
        add_preview(folder, record)
    return folder


def picture(update: int, size: int, frame: int = 0) -> Image.Image:
    grids = [grid(0, size, frame), np.full((3 * size, 8, 3), 255, np.uint8), grid(update, size, frame)]
    return Image.fromarray(np.concatenate(grids if update else grids[:1], axis=1))


def grid(update: int, size: int, frame: int) -> np.ndarray:
    colours = [[colour(update, row, column) for column in range(COLUMNS)] for row in range(len(PROMPTS))]
    return np.repeat(np.repeat(np.array(colours, np.uint8), size, 0), size, 1) + np.uint8(15 * frame)
