"""The bad inputs: what is wrong with each, and what must be found in the answer."""

import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from PIL import Image
from safetensors.torch import load_file, save_file

from seppo_core.cache.encode_items import ItemEncoder
from seppo_core.io.locks import FolderLock
from seppo_core.training.trainer import Trainer
from tests.bad_inputs.planted import disk_error, nan_loss, signals_at, vanishing
from tests.bad_inputs.workspace import CONFIG, Case, edit, own_base, rows, write_rows


def options(command: str, *more: str):
    """A command on the usual config with options, nothing spoilt."""
    return lambda: [command, CONFIG, *more]


def after(spoil, *argv: str):
    """Spoils, then the command line; without one, `train` on the usual config."""

    def act() -> list[str]:
        spoil()
        return list(argv) or ["train", CONFIG]

    return act


PREPARE = ("prepare", CONFIG, "--data.cache", "new")


def rejected() -> str:
    return Path("new/rejected.jsonl").read_text().splitlines()[0]


def large_picture() -> None:
    Image.new("1", (25_000, 25_000)).save("pictures/0.png")


def negate(file: Path) -> None:
    save_file({name: -tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})


def other_vae() -> None:
    negate(own_base() / "vae" / "diffusion_pytorch_model.safetensors")


def other_denoiser() -> None:
    negate(own_base() / "unet" / "diffusion_pytorch_model.safetensors")


@contextmanager
def occupied():
    with FolderLock(Path("run")), mock.patch("seppo_core.io.locks.PATIENCE", 0):
        yield


def no_wandb():
    return mock.patch("seppo_core.run.logging.find_spec", lambda _: None)


def deepspeed():
    return mock.patch.dict(os.environ, {"ACCELERATE_USE_DEEPSPEED": "true"})


def checkpoint(name: str) -> Path:
    return Path("run/checkpoints/update-000004") / name


DATA = [
    Case("data", "the folder is not there", options("prepare", "--data.source", "picturse"), says="picturse.*pictures"),
    Case("data", "no captions beside the files", after(lambda: Path("pictures/metadata.jsonl").unlink(), *PREPARE),
         says="metadata.jsonl"),
    Case("data", "a line of the captions is broken",
         after(lambda: edit("pictures/metadata.jsonl", lambda t: t.replace('"}', "", 1)), *PREPARE), status=0,
         says="line 1", reads=rejected),
    Case("data", "captions under another name",
         after(lambda: edit("pictures/metadata.jsonl", lambda t: t.replace('"caption"', '"words"')), *PREPARE),
         says="caption"),
    Case("data", "a picture is cut off in the middle",
         after(lambda: os.truncate("pictures/0.png", 2000), *PREPARE), status=0, says="0.png", reads=rejected),
    Case("data", "a text file that is called .png",
         after(lambda: Path("pictures/0.png").write_text("hello"), *PREPARE), status=0, says="0.png", reads=rejected),
    Case("data", "a picture that would unpack to 625 million pixels", after(large_picture, *PREPARE), status=0,
         says="0.png", reads=rejected),
    Case("data", "a file that is listed and not there", after(lambda: Path("pictures/0.png").unlink(), *PREPARE),
         status=0, says="0.png", reads=rejected),
    Case("data", "an empty caption", after(lambda: write_rows([rows()[0] | {"caption": " "}, *rows()[1:]]), *PREPARE),
         status=0, says="empty caption", reads=rejected),
    Case("data", "a file name that leads out of the folder",
         after(lambda: write_rows([rows()[0] | {"file_name": "../base/model_index.json"}, *rows()[1:]]), *PREPARE),
         status=0, says=r"\.\.", reads=rejected),
    Case("data", "more files unusable than allowed",
         after(lambda: [Path(f"pictures/{n}.png").write_text("x") for n in range(5)], *PREPARE), says="5 of 8 items"),
    Case("data", "the cache's folder holds something else",
         after(lambda: (Path("new").mkdir(), Path("new/thesis.txt").write_text("mine")), *PREPARE), says="thesis.txt"),
    Case("data", "the cache was made at another size", options("prepare", "--data.height", "32", "--data.width", "32"),
         says="made otherwise"),
    Case("data", "a method that learns from pairs, on winners", options("prepare", "--method.name", "dpo"),
         says=r"data\.supervision=pairs"),
    Case("data", "training before preparing", options("train", "--data.cache", "none"), says="run `prepare`"),
    Case("data", "the cache was made with another VAE", after(other_vae), says="another VAE"),
    Case("data", "mirrored winners that were not prepared", options("train", "--data.flip", "true"), says="data.flip"),
]  # fmt: skip

SETTINGS = [
    Case("config", "a key that is misspelt", after(lambda: edit(CONFIG, lambda t: t + "metod: {beta: 3}\n")),
         says="did you mean method"),
    Case("config", "a word where a number belongs", options("train", "--loop.iterations", "many"),
         says="a whole number"),
    Case("config", "a learning rate below zero", options("train", "--optimizer.lr", "-1"), says="greater than 0"),
    Case("config", "no YAML", after(lambda: Path(CONFIG).write_text("run: [a\n")), says=CONFIG),
    Case("config", "no such file", lambda: ["train", "confg.yaml"], says="did you mean config.yaml"),
    Case("config", "a key that is missing", after(lambda: edit(CONFIG, lambda t: t.replace("run: run\n", ""))),
         says="run is missing"),
    Case("config", "a batch that cannot be dealt out", options("train", "--loop.micro_batch_size", "3"),
         says=r"use e\.g"),
    Case("config", "an option of another method", options("train", "--method.name", "sft"), says="no meaning"),
    Case("config", "a gate without a window", options("train", "--health.window", "1"), says="at least 2"),
    Case("config", "a choice that does not exist", options("train", "--method.flipper", "sgn"),
         says="did you mean sign"),
    Case("config", "a command that does not exist", lambda: ["trian", CONFIG], says="did you mean train"),
    Case("config", "Weights & Biases that is not installed", options("train", "--log.wandb", "p"),
         says="pip install wandb", around=no_wandb),
    Case("config", "a launcher that is set up for DeepSpeed", options("train"), says=r"loop\.sharded=true",
         around=deepspeed),
    Case("config", "a change that is none", options("train", "--accept_changes", "method.betta"), says="method.beta"),
]  # fmt: skip

RUNS = [
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
    Case("run", "a gradient that is not finite, ten times", 
         options("train", "--loop.updates_per_iteration", "6", "--run", "new"),
         says="bf16", around=nan_loss),
]  # fmt: skip

DISK = [
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

SIGNALS = [
    Case("signals", "SIGTERM while training", options("train"), needs="run", status=143, says="after update 5 of 6",
         around=signals_at(Trainer, "_update", 2, signal.SIGTERM)),
    Case("signals", "Ctrl-C while training", options("train"), needs="run", status=130, says="after update 5 of 6",
         around=signals_at(Trainer, "_update", 2, signal.SIGINT)),
    Case("signals", "SIGTERM while preparing", options("prepare", "--data.cache", "new"), status=143,
         says="SIGTERM", around=signals_at(ItemEncoder, "_batch", 1, signal.SIGTERM)),
    Case("signals", "Ctrl-C while preparing", options("prepare", "--data.cache", "new"), status=130,
         says="SIGINT", around=signals_at(ItemEncoder, "_batch", 1, signal.SIGINT)),
]  # fmt: skip

CASES = [*DATA, *SETTINGS, *RUNS, *DISK, *SIGNALS]
