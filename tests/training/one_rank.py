"""A training command in a process group of one, as torchrun starts it.

python -m tests.training.one_rank CONFIG [shards] [dies N]; it prints the group's backend. `shards` keeps the model in
shards, which the product refuses to one process since it gains nothing there; it dies of SIGKILL before update N.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

from torch import distributed

import seppo_core.training.machine
import seppo_core.training.trainer
from seppo_core.config.loader import load_config
from seppo_core.training.trainer import Trainer
from seppo_image import commands
from seppo_image.config import ImageConfig


def main(config: ImageConfig, shards: bool, dies: int | None) -> None:
    config = replace(config, loop=replace(config.loop, sharded=shards))
    strategy, update = seppo_core.training.trainer.make_strategy, Trainer._update

    def make_strategy(accelerator, loop, *rest):
        print(f"backend {distributed.get_backend()} on {accelerator.device.type}", flush=True)
        return strategy(accelerator, loop, *rest)

    def dying(self, number, batches):
        if number == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, number, batches)

    with (
        mock.patch.object(seppo_core.training.machine, "check_shards", lambda *_: None),
        mock.patch.object(seppo_core.training.trainer, "make_strategy", make_strategy),
        mock.patch.object(Trainer, "_update", dying),
    ):
        commands.train(config)


if __name__ == "__main__":
    words = sys.argv[2:]
    main(
        load_config(Path(sys.argv[1]), ImageConfig), "shards" in words,
        int(words[words.index("dies") + 1]) if "dies" in words else None,
    )  # fmt: skip
