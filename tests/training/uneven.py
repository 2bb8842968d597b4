"""A training command whose second process takes a second longer over each chunk of samples, or dies over its first.

python -m tests.training.uneven FOLDER CONFIG [dies]; FOLDER/rank-N.json then says which chunks process N took.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from unittest import mock

from seppo_core.config.loader import load_config
from seppo_core.training.reference_samples import ReferenceSampler
from seppo_image import commands
from seppo_image.config import ImageConfig

SECONDS = 1.0


def main(folder: Path, config: ImageConfig, dies: bool) -> None:
    rank = int(os.environ["RANK"])
    generate, taken = ReferenceSampler.steps, []

    def uneven(self, reference, iteration, positions):
        taken.append(positions.start)
        if rank == 1:
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(SECONDS)
        yield from generate(self, reference, iteration, positions)
        (folder / f"rank-{rank}.json").write_text(json.dumps({"taken": taken, "until": time.time()}))

    with mock.patch.object(ReferenceSampler, "steps", uneven):
        commands.train(config)


if __name__ == "__main__":
    main(Path(sys.argv[1]), load_config(Path(sys.argv[2]), ImageConfig), "dies" in sys.argv[3:])
