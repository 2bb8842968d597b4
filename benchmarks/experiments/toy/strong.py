"""`python -m benchmarks.experiments.toy.strong OUT MODALITY`:

Writes the base that was tuned on the winners before all else.
"""

import shutil
import sys
from pathlib import Path

from benchmarks.experiments.toy.arms import ARMS
from benchmarks.experiments.toy.places import Places
from benchmarks.experiments.toy.plan import STRONG, config_path
from seppo_image.__main__ import main as image_main


def main(arguments: list[str]) -> int:
    """The exit status: that of the command that failed, if one did. Goes on with what was broken off."""
    places, modality = Places(Path(arguments[0])), arguments[1]
    folder = places.strong(modality)
    run, config = folder.parent / "run", str(config_path(modality, ARMS["sft"]))
    where = (
        "--run", str(run), "--data.source", str(places.source(modality, "winners")),
        "--data.cache", str(places.cache(modality, "winners")),
    )  # fmt: skip
    sizes = ("--loop.batch_size", "16", "--loop.micro_batch_size", "16", "--loop.checkpoint_every", "200")
    status = image_main(["train", config, *where, *STRONG, *sizes])
    if status == 0:
        status = image_main(["export", config, "--run", str(run), "--kind", "full", "--out", str(folder)])
    if status == 0:
        shutil.rmtree(run)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
