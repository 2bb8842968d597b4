"""Tiny models on disk, a cache of winners made by the real `prepare`, and configs of runs on them."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from seppo_core.config.method import MethodConfig, ReferenceSamplesConfig
from seppo_core.config.methods.sft import SftConfig
from seppo_core.config.schema import TuneConfig
from seppo_core.config.training import LoopConfig, OptimizerConfig, PreviewConfig
from seppo_core.io.rng import keyed_generator
from seppo_image import commands
from seppo_image.config import ImageConfig, ImageData
from seppo_image.families.stable_diffusion import StableDiffusionModel
from tests import tiny

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "grey": (128, 128, 128)}


@dataclass(frozen=True)
class Workshop:
    """Folders of a tiny base and of prepared winners."""

    base: Path
    source: Path
    cache: Path

    def config(self, run: Path, mode: str = "full", method: str = "seppo", **changes) -> ImageConfig:
        """Two iterations of three updates on the tiny base; `changes` replace whole sections."""
        config = ImageConfig(
            run=str(run),
            model=StableDiffusionModel(base=str(self.base)),
            data=ImageData(
                source=str(self.source), cache=str(self.cache), height=64, width=64, flip=True, caption_dropout=0.3
            ),
            method=SftConfig() if method == "sft" else MethodConfig.variants()[method](beta=50),
            reference_samples=ReferenceSamplesConfig(scheduler="ddim", steps=2, guidance_scale=2.0, batch_size=3),
            tune=TuneConfig(mode=mode, rank=2, alpha=4),
            loop=LoopConfig(
                iterations=2, updates_per_iteration=3, batch_size=4, micro_batch_size=2, checkpoint_every=2
            ),
            optimizer=OptimizerConfig(lr=1e-3, schedule="linear", warmup_updates=2),
            preview=PreviewConfig(),
        )
        return replace(config, **changes)


def write_pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        name, colour = list(COLOURS.items())[number % len(COLOURS)]
        generator = keyed_generator("picture", number)
        noise = torch.randint(-20, 20, (64, 64, 3), generator=generator)
        pixels = (torch.tensor(colour) + noise).clamp(0, 255).to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
        rows.append(f'{{"file_name": "{number}.png", "caption": "a {name} wall"}}\n')
    (folder / "metadata.jsonl").write_text("".join(rows))


def make_workshop(root: Path) -> Workshop:
    """A tiny base, ten pictures and their cache, in `root`."""
    tiny.stable_diffusion(root / "words").save_pretrained(root / "base")
    write_pictures(root / "pictures", 10)
    workshop = Workshop(root / "base", root / "pictures", root / "cache")
    commands.prepare(workshop.config(root / "unused"))
    return workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Workshop:
    return make_workshop(tmp_path_factory.mktemp("workshop"))
