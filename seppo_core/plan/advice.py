"""What is unwise about data and sizes though it runs: said by `init` and `plan`, each with the value and the cure."""

from collections.abc import Sequence
from pathlib import Path

from seppo_core.config.schema import Config
from seppo_core.plan.architecture import base_architecture

OFTEN = 100
"""Uses of an item above which it is learnt by heart: a rule of thumb of fine-tuning on few pictures, not measured."""
TINY = 4
"""The base's own size has this many times the pixels of one that it draws badly at."""
BLURRED = 1.5
"""Enlarged by more than this, an item looks blurred."""


def advice(config: Config, items: int | None, sizes: Sequence[tuple[int, int]] = ()) -> list[str]:
    """A line for each; `sizes` are height and width in pixels of some of the items."""
    return [line for line in (often(config, items), *of_sizes(config, sizes)) if line]


def of_sizes(config: Config, sizes: Sequence[tuple[int, int]]) -> list[str]:
    """The part of `advice` that is about sizes."""
    return [line for line in (_tiny(config), _blurred(config, sizes)) if line]


def native_size(config: Config) -> tuple[int, int] | None:
    """Height and width that the base was trained at, as its config files say; None if they do not, or are not known."""
    try:
        parts = base_architecture(config).parts
    except (FileNotFoundError, ValueError):
        return None
    latent = next((parts[part].get("sample_size") for part in ("unet", "transformer") if part in parts), None)
    blocks = parts.get("vae", {}).get("block_out_channels")
    if not isinstance(latent, int) or blocks is None:
        return None
    return (latent * 2 ** (len(blocks) - 1),) * 2


def uses(config: Config, items: int) -> float:
    """How often training sees each of so many items, on average."""
    return config.loop.iterations * config.loop.updates_per_iteration * config.loop.batch_size / max(1, items)


def often(config: Config, items: int | None) -> str | None:
    """That each of so many items is used more often than is wise; None if it is not."""
    # the samples of a judge in the loop are new in every iteration
    if items is None or config.loop.judge is not None or uses(config, items) <= OFTEN:
        return None
    loop = config.loop
    enough = max(1, OFTEN * items // loop.batch_size)
    return (
        f"each of the {items:,} items is trained on {uses(config, items):,.0f} times; above some {OFTEN} a model "
        "may learn them by heart and draw other prompts worse: bring more items, or lower loop.iterations x "
        f"loop.updates_per_iteration from {loop.iterations * loop.updates_per_iteration:,} to about {enough:,}"
    )


def _tiny(config: Config) -> str | None:
    native, (height, width) = native_size(config), (config.data.height, config.data.width)
    if native is None or height * width * TINY >= native[0] * native[1]:
        return None
    base = config.model.base if not Path(config.model.base).exists() else Path(config.model.base).name
    return (
        f"data.height x data.width = {height} x {width} is {height * width / (native[0] * native[1]):.1%} of the "
        f"pixels of {native[0]} x {native[1]}, which {base} was made for; it draws badly at such a size, so that "
        "there is little to align: use larger pictures and a size near its own, or a base made for small ones"
    )


def _blurred(config: Config, sizes: Sequence[tuple[int, int]]) -> str | None:
    height, width = config.data.height, config.data.width
    factors = [max(height / h, width / w) for h, w in sizes]
    blurred = sum(factor > BLURRED for factor in factors)
    if not blurred:
        return None
    return (
        f"{blurred:,} of {len(sizes):,} items looked at are enlarged to {height} x {width} by more than {BLURRED:g}, "
        f"at most {max(factors):.1f} times, and a blurred winner teaches blur: leave them out, or lower "
        "data.height and data.width"
    )
