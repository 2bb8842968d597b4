"""What a CPU can be asked for: bases small enough to be trained on one, and settings that it computes slowly."""

import os
import sys
from math import prod
from pathlib import Path

from seppo_core.config.base_files import weight_files
from seppo_core.config.schema import Config
from seppo_core.config.single_file import read_header

SMALL = 50_000_000
"""Weights of a denoiser below which training on a CPU takes minutes or hours."""
TINY = 5_000_000
"""Weights of a denoiser below which a second thread costs more than it gives: drawing with the toy's base took 15 times
the processor time on two threads."""
FLOAT32 = {"model.dtype": "float32", "loop.mixed_precision": "no"}


def is_small(base: str, limit: int | None = None) -> bool:
    """Whether `base` is a folder here whose denoiser has fewer than `limit` weights, by the heads of its files; `SMALL`
    unless given."""
    folders = [Path(base).expanduser() / part for part in ("unet", "transformer")]
    found = next((weight_files(folder) for folder in folders if folder.is_dir()), {})
    # each variant holds all weights
    files = next(iter(found.values()), [])
    return bool(files) and sum(prod(shape) for file in files for shape in read_header(file).values()) < (limit or SMALL)


def one_thread_if_tiny(base: str) -> None:
    """Keeps torch to one thread for a tiny base, unless OMP_NUM_THREADS says how many. It reads that as it is imported,
    which has to be later."""
    if "OMP_NUM_THREADS" not in os.environ and is_small(base, TINY):
        os.environ["OMP_NUM_THREADS"] = "1"


def tell_if_slow(config: Config, device: str) -> None:
    """Says on stderr, before any work, that `device` is a CPU and the config not one for it."""
    if device == "cpu" and (slow := slow_on_cpu(config)) is not None:
        print(f"careful: torch finds no GPU here. {slow}", file=sys.stderr, flush=True)


def slow_on_cpu(config: Config) -> str | None:
    """That a CPU computes this config's precision slowly, with the keys to set; None if it is float32 throughout."""
    now = {"model.dtype": config.model.dtype, "loop.mixed_precision": config.loop.mixed_precision}
    slow = {key: value for key, value in now.items() if value != FLOAT32[key]}
    if not slow:
        return None
    named = " and ".join(f"{key}={value}" for key, value in slow.items())
    cure = ", ".join(f"{key}: {FLOAT32[key]}" for key in slow)
    return f"{named}: a CPU computes half precision many times slower than float32; set {cure}"
