"""`python -m benchmarks.experiments.demo.picture runs/demo docs/demo.png`:

The same prompts and noise under every arm, as one PNG.
"""

import sys
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image
from safetensors.numpy import load_file

from benchmarks.experiments.demo.plan import ARMS, Places

COLUMNS = 16
ENLARGE = 4


def picture(demo: Path, out: Path) -> None:
    """One row an arm (base, continued, SFT, SePPO, SePPO with the anchor off), one column a held-out prompt."""
    rows = []
    for arm in ARMS:
        last = sorted((Places(demo).scores("image") / arm).glob("update-*.safetensors"))[-1]
        samples = load_file(last)["samples"][:, 0]
        rows.append(samples[:: max(1, len(samples) // COLUMNS)][:COLUMNS])
    grid = rearrange(np.stack(rows), "r k h w c -> (r h) (k w) c")
    image = Image.fromarray(grid)
    out.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * ENLARGE, image.height * ENLARGE), Image.Resampling.NEAREST).save(out)


if __name__ == "__main__":
    picture(Path(sys.argv[1]), Path(sys.argv[2]))
