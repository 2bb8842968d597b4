"""What a base's configs say of sizes, read without its weights."""

import json
from pathlib import Path

from seppo_core.models.base_files import local_place

WIDTHS = ("block_out_channels", "encoder_block_out_channels")
"""Keys under which VAEs' configs list the widths of their levels: each level but the first halves the sides."""


def vae_factor(base: str, revision: str | None = None) -> int | None:
    """Pixels of a side per latent; None if the config is not here or does not say."""
    config = _config(base, revision, "vae")
    levels = next((config[key] for key in WIDTHS if key in config), None)
    return None if levels is None else 2 ** (len(levels) - 1)


def native_side(base: str, revision: str | None = None) -> int | None:
    """Pixels of a side that a base is made for: its denoiser's size in latents times the VAE's factor."""
    sizes = (_config(base, revision, part).get("sample_size") for part in ("unet", "transformer"))
    latents = next((size for size in sizes if isinstance(size, int) and size > 1), None)
    factor = vae_factor(base, revision)
    return None if latents is None or factor is None else latents * factor


def _config(base: str, revision: str | None, part: str) -> dict:
    place = local_place(base, revision)
    file = (place or Path(base)) / part / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
