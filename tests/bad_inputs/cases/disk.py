"""Disks that refuse."""

from tests.bad_inputs.planted import disk_error, vanishing
from tests.bad_inputs.workspace import Case, options

CASES = [
    Case("disk", "full while a checkpoint is written", options("train"), needs="run", says="its disk is full",
         around=disk_error("ENOSPC", "progress.json")),
    Case("disk", "over quota", options("train"), needs="run", says="quota",
         around=disk_error("EDQUOT", "progress.json")),
    Case("disk", "read-only", options("train", "--run", "new"), says="writable",
         around=disk_error("EROFS", "winners.json")),
    Case("disk", "no permission", options("train", "--run", "new"), says="permissions",
         around=disk_error("EACCES", "winners.json")),
    Case("disk", "a mount that vanishes while training", options("train"), needs="run", says="unmounted",
         around=vanishing),
]  # fmt: skip
