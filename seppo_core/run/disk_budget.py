"""Compares the bytes that a run will write with the free space on its disk, before it begins."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from seppo_core.config.schema import Config
from seppo_core.io.space import free_bytes

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("pool", "checkpoints", "buffer")
"""Folders of a run that `run_bytes` counts."""


def run_bytes(
    config: Config, trained: "Iterable[Tensor]", latent_bytes: int, items: int | None = None
) -> dict[str, int]:
    """The most bytes that a run holds at once, by part.

    `trained` are the trained weights, whole; `latent_bytes` is one generated sample, which the buffer keeps in float32;
    `items` is the number of winners, of which kept draws hang.
    """
    m, loop = config.method, config.loop
    candidates = loop.candidates(m.spec)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in trained)
    # AdamW's two moments, of one byte each in its 8-bit form; Adafactor's one is no more than the weights
    moments = {"adamw8bit": weights // 2, "adafactor": weights}.get(config.optimizer.name, 2 * weights)
    checkpoint = weights + moments + (weights if config.optimizer.ema_decay is not None else 0)
    return {
        "snapshots of the pool": pool_entries(config) * weights,
        "checkpoints": checkpoints_held(config) * checkpoint,
        "reference samples": samples_held(config, items) * latent_bytes,
        "judged samples": candidates * latent_bytes,
        "reference errors": errors_held(config, items) * 4,
    }


def samples_held(config: Config, items: int | None) -> int:
    """The most samples of the reference that a run of so many winners holds at once."""
    loop, spec = config.loop, config.method.spec
    if config.sample_epochs is not None:
        return loop.drawn(items, config.sample_epochs) if spec.counterpart == "generated" else 0
    return config.generated - loop.candidates(spec)


def errors_held(config: Config, items: int | None) -> int:
    """Numbers in the store of a reference's errors."""
    columns = 1 + config.method.spec.contrastive + config.method.anchor_draws
    draws = config.loop.reference_draws
    return 0 if draws is None else columns * config.loop.drawn(items, draws)


def pool_entries(config: Config) -> int:
    """The most snapshots that the pool holds at once."""
    m, iterations = config.method, config.loop.iterations
    if not config.holds_reference:
        return 0
    if config.loop.judge is None and {m.strategy, m.sampled_from} == {"initial"}:
        return 1
    # those that the newest checkpoints need, and the new one before one is forgotten
    return iterations if m.pool_window is None else min(iterations, m.pool_window + config.loop.keep_checkpoints)


def checkpoints_held(config: Config) -> int:
    """The most checkpoints that a run holds at once."""
    loop = config.loop
    total = loop.iterations * loop.updates_per_iteration
    # a new one is written before an old one goes
    return loop.keep_checkpoints + 1 + loop.keep_best + (total // loop.keep_every if loop.keep_every else 0)


def check_run_space(folder: Path, needed: dict[str, int]) -> None:
    """Raises OSError if the disk of `folder` has no room for the part of `needed` that is not written yet."""
    there = sum(path.stat().st_size for part in PARTS for path in (folder / part).rglob("*") if path.is_file())
    missing, free = sum(needed.values()) - there, free_bytes(folder)
    if missing > free:
        parts = ", ".join(f"{size / 1e9:.1f} GB for {name}" for name, size in needed.items() if size)
        raise OSError(
            f"{folder} needs {missing / 1e9:.1f} GB more and its disk has {free / 1e9:.1f} GB free ({parts}); free "
            "some, name another disk as `run`, or keep fewer (loop.keep_checkpoints, method.pool_window)"
        )
