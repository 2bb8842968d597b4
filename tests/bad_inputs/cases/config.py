"""Configs and command lines."""

import os
from pathlib import Path
from unittest import mock

from tests.bad_inputs.workspace import CONFIG, Case, after, edit, options


def no_wandb():
    return mock.patch("seppo_core.run.logging.find_spec", lambda _: None)


def deepspeed():
    return mock.patch.dict(os.environ, {"ACCELERATE_USE_DEEPSPEED": "true"})


CASES = [
    Case("config", "a key that is misspelt", after(lambda: edit(CONFIG, lambda t: t + "metod: {beta: 3}\n")),
         says="did you mean method"),
    Case("config", "several keys and values that do not fit",
         after(lambda: edit(CONFIG, lambda t: t + "sed: 1\nmetod: {beta: 3}\n")),
         says="sed is not a key; did you mean seed.*metod is not a key; did you mean method"),
    Case("config", "a word where a number belongs", options("train", "--loop.iterations", "many"),
         says="a whole number"),
    Case("config", "a learning rate below zero", options("train", "--optimizer.lr", "-1"), says="greater than 0"),
    Case("config", "no YAML", after(lambda: Path(CONFIG).write_text("run: [a\n")), says=CONFIG),
    Case("config", "no such file", lambda: ["train", "confg.yaml"], says="did you mean config.yaml"),
    Case("config", "a key in another section than its own", options("train", "--loop.lr", "1e-4"),
         says=r"did you mean optimizer\.lr"),
    Case("config", "a recipe's name in place of a config", lambda: ["plan", "sd15_lora_seppo"],
         says="init mine --recipe sd15_lora_seppo --data FOLDER"),
    Case("config", "a key that is missing", after(lambda: edit(CONFIG, lambda t: t.replace("run: run\n", ""))),
         says="run is missing"),
    Case("config", "a batch that cannot be dealt out", options("train", "--loop.micro_batch_size", "3"),
         says=r"use e\.g"),
    Case("config", "an option of another method", options("train", "--method.name", "sft", "--method.beta", "5"),
         says="no meaning"),
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
