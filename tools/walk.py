"""`python tools/walk.py`: prints the source files that a winner passes on its way from a folder to the loss.

It writes four pictures, prepares and trains two updates on the embedded image base with a profiler on, and lists every
file of the packages in the order in which a function of it was first called, by phase.
"""

import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

import seppo_image  # noqa: E402

OPTIONS = {
    "loop.iterations": 1,
    "loop.updates_per_iteration": 2,
    "loop.batch_size": 2,
    "loop.micro_batch_size": 2,
    "optimizer.warmup_updates": 0,
    "reference_samples.steps": 2,
    "reference_samples.batch_size": 2,
}


def write_pictures(folder: Path) -> None:
    """Writes four grey 16 × 16 pictures and their captions."""
    folder.mkdir()
    lines = []
    for index in range(4):
        Image.fromarray(np.full((16, 16, 3), 40 * index, dtype=np.uint8)).save(folder / f"{index}.png")
        lines.append(json.dumps({"file_name": f"{index}.png", "caption": "a small red circle on black"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Runs the two phases and prints the files of each."""
    entered: dict[tuple[str, str], str] = {}
    phase = "prepare"

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        file = Path(code.co_filename)
        if event == "call" and code.co_name != "<module>" and file.is_relative_to(ROOT):
            entered.setdefault((phase, str(file.relative_to(ROOT))), code.co_name)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # the recipe names its base relative to the checkout
        os.chdir(ROOT)
        write_pictures(folder / "data")
        places = {"data.source": folder / "data", "data.cache": folder / "cache", "run": folder / "run"}
        options = {key: str(value) for key, value in places.items()} | OPTIONS
        run = seppo_image.Run.from_config(ROOT / "configs/toy/image_seppo.yaml", options)
        threading.setprofile(profile)
        sys.setprofile(profile)
        run.prepare()
        phase = "train"
        run.train()
        sys.setprofile(None)
        threading.setprofile(None)
    for (when, file), function in entered.items():
        if file.startswith("seppo_"):
            print(f"{when:8} {file:45} {function}")


if __name__ == "__main__":
    main()
