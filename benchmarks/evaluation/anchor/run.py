"""A trained run opened for looking at its anchor: model, winners, and the policies and references it went through."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.evaluation.models import ModelSpec, run_config
from seppo_core.cache.reader import WinnerCache
from seppo_core.cli.commands import tune, with_method
from seppo_core.config.schema import Config
from seppo_core.methods.reference import Reference, ReferencePool, make_reference
from seppo_core.models.adapter import Adapter
from seppo_core.models.tuning import trainable_state
from seppo_core.run.checkpoint import CheckpointFolder, load_policy, load_progress
from seppo_image import commands as image_commands
from seppo_image.config import ImageConfig
from seppo_video import commands as video_commands

State = dict[str, Tensor]
Which = Literal["drawn", "initial", "latest"]


@dataclass(frozen=True)
class Point:
    """A moment of training: the policy after `update` updates, and the reference that it was trained against last."""

    update: int
    iteration: int
    reference: int
    """Snapshot of the pool; 0 is the start."""
    policy_state: Callable[[], State]
    reference_state: Callable[[], State]

    @property
    def name(self) -> str:
        return f"update-{self.update:06d}-reference-{self.reference:04d}"


@dataclass(frozen=True)
class Run:
    """Everything that measuring needs."""

    folder: Path
    config: Config
    adapter: Adapter
    cache: WinnerCache
    reference: Reference
    initial: State
    accelerator: Accelerator

    @property
    def kind(self) -> Literal["image", "video"]:
        return "image" if isinstance(self.config, ImageConfig) else "video"

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def numerics(self) -> AbstractContextManager:
        """The precision that the run was trained in: signs of small gaps depend on it."""
        return self.accelerator.autocast()


def open_run(folder: Path) -> Run:
    """FileNotFoundError where there is no run or no cache, ValueError where it learnt from labels, not from winners."""
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"{folder} is no run folder (no config.yaml)")
    config = replace(run_config(ModelSpec("run", str(folder))), run=str(folder))
    if config.method.recipe.form == "labels":
        raise ValueError(f"{folder} learnt from labels ({config.method.name}); the anchor is about winners")
    cache = WinnerCache(Path(config.data.cache))
    accelerator = Accelerator(mixed_precision=config.loop.mixed_precision)
    adapter = (image_commands if isinstance(config, ImageConfig) else video_commands).load(config)
    adapter.path = with_method(adapter.path, config.method)
    tune(adapter, config)
    adapter.pipeline.to(accelerator.device)
    adapter.denoiser.eval()
    initial = trainable_state(adapter.denoiser)
    return Run(folder, config, adapter, cache, make_reference(adapter.denoiser), initial, accelerator)


def points(run: Run, which: Which = "drawn") -> list[Point]:
    """Every moment whose weights are still on disk, oldest first: checkpoints, and the pool's snapshots as policies.

    `which` is the reference: the one that the run itself drew for the iteration, the start, or the newest snapshot. A
    run without a reference is held against its start. FileNotFoundError where the run trained nothing yet.
    """
    updates = run.config.loop.updates
    strategy = run.config.method.strategy
    pool = ReferencePool(run.folder / "pool", strategy or "initial", run.config.seed)
    states: dict[int, Callable[[], State]] = {}
    for path in sorted(pool.folder.glob("snapshot-*.safetensors")):
        index = int(path.stem.removeprefix("snapshot-"))
        if index:
            states[index * updates] = lambda index=index: pool.load(index)
    for checkpoint in CheckpointFolder(run.folder / "checkpoints").list():
        states[load_progress(checkpoint).update] = lambda checkpoint=checkpoint: load_policy(checkpoint)
    if not states:
        raise FileNotFoundError(f"{run.folder} holds no checkpoint and no snapshot beyond the first; train it first")
    found = []
    for update in sorted(states):
        # after an iteration's last update the policy still belongs to it
        iteration = (update - 1) // updates
        if which == "initial" or strategy is None:
            index = 0
        else:
            index = pool.draw(iteration) if which == "drawn" else iteration
        load = (lambda: run.initial) if index == 0 else (lambda index=index: pool.load(index))
        found.append(Point(update, iteration, index, states[update], load))
    return found


def spread(found: list[Point], count: int | None) -> list[Point]:
    """At most `count` of them, evenly spread, the last always among them."""
    if count is None or count >= len(found):
        return found
    return [found[round((i + 1) * len(found) / count) - 1] for i in range(count)]
