"""`python -m tools.plan_counts [CONFIG …]`: counts the recipes of configs/ for plans that need no torch.

What is stored and still right is left as it is. It takes some seconds a recipe of Stable Diffusion, minutes in all.
"""

import json
import sys
import time
from pathlib import Path

from seppo_core.config.loader import load_config
from seppo_core.io.atomic import save_text
from seppo_core.plan.counts import FILE, key_of, stored, to_json
from seppo_core.plan.measure import measure
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig

ROOT = Path(__file__).parents[1]


def recipes() -> list[Path]:
    """The configs of the repository, by path from its root."""
    return [path.relative_to(ROOT) for path in sorted(ROOT.glob("configs/*/*.yaml"))]


def schema_of(path: Path) -> type[ImageConfig] | type[VideoConfig]:
    """What a recipe of the repository trains."""
    return VideoConfig if path.parent.name == "video" or path.name.startswith("video_") else ImageConfig


def main(argv: list[str]) -> int:
    held = dict(stored())
    keys = {}
    for path in [Path(name) for name in argv] or recipes():
        config = load_config(str(path), schema_of(path))
        key = key_of(config)
        keys[key] = path
        began = time.process_time()
        if key not in held:
            held[key] = {"recipe": path.as_posix(), "costs": to_json(measure(config))}
            print(f"{path}: {time.process_time() - began:.0f} s", flush=True)
            _save(held)
    if not argv:
        # counts of what recipes were before
        _save({key: held[key] for key in held if key in keys})
    return 0


def _save(held: dict) -> None:
    ordered = dict(sorted(held.items(), key=lambda item: item[1]["recipe"]))
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in ordered.items())
    save_text(FILE, "{\n" + lines + "\n}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
