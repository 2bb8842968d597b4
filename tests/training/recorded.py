"""A training command that writes down the errors and gradients of the first global batch it sees.

python -m tests.training.recorded FOLDER CONFIG..., on any number of processes: FOLDER/NAME-RANK.safetensors for each.
"""

import os
import sys
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save_file

from seppo_core.config.loader import load_config
from seppo_core.methods.seppo import Seppo
from seppo_core.training.optim import Stepper
from seppo_image import commands as of_images
from seppo_image.config import ImageConfig
from seppo_video import commands as of_clips
from seppo_video.config import VideoConfig


def record(config: ImageConfig | VideoConfig, path: Path) -> None:
    """Trains, and saves of the first batch the errors (b,) of this process's share, and every gradient before it is
    clipped."""
    seen: dict[str, list[torch.Tensor]] = {}
    preference, step = Seppo.preference, Stepper.step

    def watched(self, errors, sign):
        for name, value in {**errors._asdict(), "sign": sign}.items():
            seen.setdefault(name, []).append(value.detach().clone())
        return preference(self, errors, sign)

    def stepped(self, loss):
        if not path.exists():
            gradients = {f"gradient {n:04d}": p.grad.detach().clone() for n, p in enumerate(self.parameters)}
            save_file({name: torch.cat(values) for name, values in seen.items()} | gradients, path)
        return step(self, loss)

    with mock.patch.object(Seppo, "preference", watched), mock.patch.object(Stepper, "step", stepped):
        (of_clips if isinstance(config, VideoConfig) else of_images).train(config)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        file = Path(sys.argv[1]) / f"{Path(name).stem}-{os.environ['RANK']}.safetensors"
        is_clips = "frames:" in Path(name).read_text()
        record(load_config(Path(name), VideoConfig if is_clips else ImageConfig), file)
