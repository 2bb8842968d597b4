"""Runs whose winners a judge chooses, and what they trained on, drawn and measured by itself."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file

from seppo_core.io.rng import keyed_stream
from seppo_core.models.sampling import make_scheduler, sample
from seppo_core.run.checkpoint import CheckpointFolder, load_policy
from seppo_core.run.history import read_metrics
from seppo_core.training.batches import BatchMaker, WinnerOrder
from seppo_core.training.trainer import Trainer
from seppo_image import commands

WORDS = ("a red wall", "a green wall", "a blue wall", "a grey wall", "a wall")
COUNT = 3
JUDGE = "tests.judges:redness"


def config_of(workshop, run, method: str = "dpo", mode: str = "full", judge: str = JUDGE, **loop):
    config = workshop.config(run, mode, method)
    changed = {"updates_per_iteration": 2, "batch_size": 2, "checkpoint_every": 1} | loop
    return replace(
        config,
        data=replace(config.data, supervision="prompts", flip=False),
        reference_samples=replace(config.reference_samples, guidance_scale=1.0, batch_size=4),
        loop=replace(config.loop, judge=judge, judge_samples=COUNT, **changed),
    )


def watched(config, patch, program=commands) -> SimpleNamespace:
    """Trains by `program`; the batch and the place in it of each training position, and the parts of the run."""
    made, make, init = SimpleNamespace(run=Path(config.run), places={}), BatchMaker.make, Trainer.__init__
    size = config.loop.batch_size

    def watching(self, update, indices, *rest):
        batch = make(self, update, indices, *rest)
        made.places |= {update * size + index: (batch, place) for place, index in enumerate(indices)}
        return batch

    def begun(self, parts):
        made.parts = parts
        init(self, parts)

    patch.setattr(BatchMaker, "make", watching)
    patch.setattr(Trainer, "__init__", begun)
    program.train(config)
    return made


def assert_same(run: Path, other: Path) -> None:
    a, b = (load_policy(CheckpointFolder(one / "checkpoints").latest()) for one in (run, other))
    assert all(torch.equal(a[name], b[name]) for name in a)
    timings = ("seconds", "data_seconds", "samples_per_second")
    a, b = ([{k: v for k, v in line.items() if k not in timings} for line in read_metrics(one)] for one in (run, other))
    assert a == b


def drawn_here(parts, iteration: int, position: int, count: int = COUNT) -> torch.Tensor:
    """Samples of a position's caption by the snapshot of that iteration, drawn by themselves."""
    adapter, cache, config = parts.adapter, parts.cache, parts.config
    snapshot = load_file(Path(config.run) / "pool" / f"snapshot-{iteration:04d}.safetensors")
    adapter.denoiser.load_state_dict(snapshot, strict=False)
    item = WinnerOrder(len(cache), config.seed, config.draws).item(position)
    condition = cache.condition([item], [False])
    places = range(count * position, count * (position + 1))
    noise = [keyed_stream(2, config.seed, "candidate", iteration, place).normal(cache.latent_shape) for place in places]
    expanded = {name: value.expand(count, *value.shape[1:]) for name, value in condition.items()}
    with torch.no_grad():
        return sample(
            adapter, adapter.denoiser, expanded,
            noise=torch.stack(noise), steps=2, guidance_scale=1.0, scheduler=make_scheduler("ddim", adapter.scheduler),
        )  # fmt: skip


def red(parts, latents: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return parts.adapter.decode(latents)[:, 0].mean((1, 2))
