"""Free space on a disk."""

import shutil
from pathlib import Path


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds `path`, which need not exist yet."""
    existing = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free


def check_space(folder: Path, needed: int, purpose: str) -> None:
    """Raises OSError if the disk of `folder` has fewer than `needed` bytes free for `purpose`."""
    free = free_bytes(folder)
    if free < needed:
        raise OSError(
            f"{folder} needs {needed / 1e9:.1f} GB for {purpose} and its disk has {free / 1e9:.1f} GB free; free some, "
            "name another disk, or store half precision (data.cache_dtype: bfloat16)"
        )
