"""Signals that end a command."""

import signal

from seppo_core.cache.encode_items import ItemEncoder
from seppo_core.training.trainer import Trainer
from tests.bad_inputs.planted import signals_at
from tests.bad_inputs.workspace import Case, options

CASES = [
    Case("signals", "SIGTERM while training", options("train"), needs="run", status=143, says="after update 5 of 6",
         around=signals_at(Trainer, "_update", 2, signal.SIGTERM)),
    Case("signals", "Ctrl-C while training", options("train"), needs="run", status=130, says="after update 5 of 6",
         around=signals_at(Trainer, "_update", 2, signal.SIGINT)),
    Case("signals", "SIGTERM while preparing", options("prepare", "--data.cache", "new"), status=143,
         says="SIGTERM", around=signals_at(ItemEncoder, "_batch", 1, signal.SIGTERM)),
    Case("signals", "Ctrl-C while preparing", options("prepare", "--data.cache", "new"), status=130,
         says="SIGINT", around=signals_at(ItemEncoder, "_batch", 1, signal.SIGINT)),
]  # fmt: skip
