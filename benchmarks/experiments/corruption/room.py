"""A room with a tiny base, pictures, their cache and a run that was killed in its middle; all paths are relative."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn

from benchmarks.evaluation import tiny_models
from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.processes import Launcher, read_log
from benchmarks.experiments.toy.task.mixture import draw_samples
from benchmarks.experiments.toy.task.sets import write_set
from seppo_core.toy.captions import train_captions

IMAGES = 8
CONFIG = """\
run: run
seed: {seed}
model: {{base: base}}
data: {{source: pictures, cache: cache, height: 16, width: 16, encode_batch_size: 4}}
method: {{name: seppo, beta: 20}}
tune: {{mode: lora, rank: 2}}
reference_samples: {{scheduler: ddim, steps: 2, guidance_scale: 1, batch_size: 6}}
loop: {{iterations: 3, updates_per_iteration: 3, batch_size: 4, micro_batch_size: 4, checkpoint_every: 1}}
optimizer: {{lr: 1.0e-2, ema_decay: 0.9}}
preview: {{prompts: ["a red circle"], every: 2, per_prompt: 1, steps: 2, scheduler: ddim}}
"""
"""Nine updates, a checkpoint after each, three references of twelve samples each."""
EARLIER, NOW = 2, 5
"""Updates after which the run is killed: in its first iteration, and in its second."""
ARGUMENTS = {
    "sample": ("--out", "drawn", "--steps", "2", "--scheduler", "ddim", "--prompts", "a red circle"),
    "export": ("--out", "exported"),
}
DYING = """
import os
from seppo_core.training.trainer import Trainer
whole = Trainer._update
Trainer._update = lambda self, update, *rest: os._exit(9) if update == {update} else whole(self, update, *rest)
"""
COMMAND = """
import os, sys
os.chdir({room!r})
{before}
from seppo_image.__main__ import main
sys.exit(main({argv!r}))
"""


class RoomFailed(RuntimeError):
    """A command failed where nothing was damaged yet."""


@dataclass(frozen=True)
class Answer:
    """How a command ended, and the lines that it printed."""

    status: int
    lines: list[str]


class Commands:
    """Runs the commands of `seppo-image` in rooms, each in a process that is forked from a server."""

    def __init__(self):
        self.launcher = Launcher(ROOT, preload=("seppo_image.commands", "seppo_core.training.trainer"))

    def run(self, room: Path, command: str, before: str = "") -> Answer:
        """Gives `command` in `room`; `before` is code that goes first."""
        argv = ["status", "run"] if command == "status" else [command, "config.yaml", *ARGUMENTS.get(command, ())]
        log = room.with_name(f"{room.name}.log")
        log.unlink(missing_ok=True)
        code = COMMAND.format(room=str(room), before=before, argv=argv)
        process = self.launcher.start(("-c", code), log)
        process.join()
        return Answer(process.exitcode, read_log(log))

    def must(self, room: Path, command: str, before: str = "", status: int = 0) -> Answer:
        """As `run`; RoomFailed unless it ends with `status`."""
        answer = self.run(room, command, before)
        if answer.status != status:
            raise RoomFailed(
                f"{command} ended with status {answer.status} in {room}:\n" + "\n".join(answer.lines[-15:])
            )
        return answer


def build(room: Path, commands: Commands, seed: int) -> None:
    """Makes base, pictures, cache and a run that was killed after update NOW in `room`; beside it, in `room`-earlier,
    the same as it was when the run had been killed after EARLIER."""
    room.mkdir(parents=True)
    torch.manual_seed(seed)
    tokenizer = tiny_models.tokenizer()
    vae, unet, text = _vae(), _unet(), tiny_models.text_encoder(tokenizer)
    pipeline = StableDiffusionPipeline(
        vae=vae, unet=unet, text_encoder=text, tokenizer=tokenizer, scheduler=tiny_models.scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(room / "base")
    captions = train_captions("image")[:IMAGES]
    write_set(
        room / "pictures", "image", draw_samples("image", captions, torch.Generator().manual_seed(seed)), captions
    )
    (room / "config.yaml").write_text(CONFIG.format(seed=seed), encoding="utf-8")
    commands.must(room, "prepare")
    commands.must(room, "train", DYING.format(update=EARLIER), status=9)
    shutil.copytree(room, room.with_name(f"{room.name}-earlier"))
    commands.must(room, "train", DYING.format(update=NOW), status=9)


def _vae() -> nn.Module:
    return AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def _unet() -> nn.Module:
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=tiny_models.WIDTH, attention_head_dim=4, norm_num_groups=8,
    )  # fmt: skip


def results(room: Path, command: str, answer: Answer) -> dict[str, str]:
    """What a command made, by name: nothing in it may depend on damage, unless that is told."""
    from seppo_core.io.hashing import sha256_file
    from seppo_core.models.finite import named_tensors
    from seppo_core.run.checkpoint import CheckpointFolder, load_checkpoint
    from seppo_core.run.history import read_metrics

    def hashes(folder: str, *patterns: str) -> dict[str, str]:
        paths = {path for pattern in patterns for path in (room / folder).glob(pattern)}
        return {str(path.relative_to(room)): sha256_file(path) for path in sorted(paths) if path.is_file()}

    if command == "train":
        last = CheckpointFolder(room / "run" / "checkpoints").latest()
        checkpoint = load_checkpoint(last)
        moments = [(name, tensor.sum().item()) for name, tensor in named_tensors(checkpoint.optimizer["state"])]
        lines = [{k: v for k, v in line.items() if "second" not in k} for line in read_metrics(room / "run")]
        drawn = [f"update-{update:06d}.png" for update in range(NOW + 1, 10)]
        return {
            "metrics": json.dumps(lines),
            "progress": repr(checkpoint.progress),
            "moments": repr(moments),
            **hashes(f"run/checkpoints/{last.name}", "*.safetensors"),
            # the one that this command saves; those before are what it reads
            **hashes("run/pool", "snapshot-0002.safetensors"),
            **hashes("run/previews", *drawn),
        }
    if command == "status":
        # what depends on the clock, or says how many samples are there
        moving = ("last sign", "ends", "left", "sampling", "damaged")
        return {"text": "\n".join(line for line in answer.lines if not line.startswith(moving))}
    if command == "prepare":
        return hashes("cache", "*.safetensors", "*.jsonl", "manifest.json")
    if command == "sample":
        return hashes("drawn", "*")
    return hashes("exported", "**/*.safetensors", "**/*.json", "**/*.txt") if command == "export" else {}
