"""Run folders and what lies in them."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from seppo_core.io.locks import FolderLock
from tests.bad_inputs.planted import nan_loss
from tests.bad_inputs.workspace import CONFIG, Case, after, checkpoint, edit, negate, options, own_base


def other_denoiser() -> None:
    negate(own_base() / "unet" / "diffusion_pytorch_model.safetensors")


@contextmanager
def occupied():
    with FolderLock(Path("run")), mock.patch("seppo_core.io.locks.PATIENCE", 0):
        yield


CASES = [
    Case("run", "another config than the run began with", options("train", "--method.beta", "7"), needs="run",
         says="--accept_changes method.beta"),
    Case("run", "another version of this package",
         after(lambda: edit("run/environment.jsonl", lambda t: t.replace('"seppo": "0', '"seppo": "7'))), needs="run",
         says="--accept_changes version"),
    Case("run", "other weights at the base's path", after(other_denoiser), needs="run", says="--accept_changes model"),
    Case("run", "a folder with other files as the run",
         after(lambda: (Path("run").mkdir(), Path("run/thesis.txt").write_text("mine"))), says="holds no run"),
    Case("run", "a second process in the same run", options("train"), needs="run", says="another process",
         around=occupied),
    Case("run", "a checkpoint of another format",
         after(lambda: checkpoint("progress.json").write_text('{"format": 9}')), needs="run", says="format 9"),
    Case("run", "weights that are damaged",
         after(lambda: checkpoint("policy.safetensors").write_bytes(b"\0" * 64)), needs="run", says="move it away"),
    Case("run", "an optimiser state that is cut off",
         after(lambda: os.truncate(checkpoint("optimizer.pt"), 1000)), needs="run", says="move it away"),
    Case("run", "a snapshot of the reference that is gone",
         after(lambda: shutil.rmtree("run/pool")), needs="run", says="snapshot"),
    Case("run", "a checkpoint that is not there", options("export", "--checkpoint", "99"), needs="run",
         says="update-000004"),
    Case("run", "an export over a folder that is there",
         after(lambda: Path("out").mkdir(), "export", CONFIG, "--out", "out"), needs="run", says="not overwritten"),
    Case("run", "a LoRA from full weights", options("export", "--kind", "lora"), needs="run", says="--kind full"),
    Case("run", "status of a folder that is no run", lambda: ["status", "pictures"], says="holds no run"),
    Case("run", "status of a config whose run has not begun", lambda: ["status", CONFIG], says=f"train {CONFIG}"),
    Case("run", "a gradient that is not finite, ten times", 
         options("train", "--loop.updates_per_iteration", "6", "--run", "new"),
         says="bf16", around=nan_loss),
]  # fmt: skip
