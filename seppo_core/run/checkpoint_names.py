"""Names of checkpoints in a run's folder, which of them stay, and what else lies beside them. Without torch."""

import re
from pathlib import Path

FOLDER, POOL = "checkpoints", "pool"
"""The folders of checkpoints, and of the reference pool's snapshots."""
POLICY_FILE = "policy.safetensors"
"""The file of a checkpoint that holds the trained weights."""
_NAME = re.compile(r"update-(\d{6,})")


def checkpoint_name(update: int) -> str:
    """The name of the checkpoint after `update` updates."""
    return f"update-{update:06d}"


def update_of(path: Path) -> int:
    """The number of updates that the name of a checkpoint tells."""
    return int(_NAME.fullmatch(path.name)[1])


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first: the folders with a checkpoint's name and no others."""
    found = [path for path in _entries(folder) if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=update_of)


def strays_in(folder: Path) -> list[str]:
    """Names in `folder` that are no checkpoint's, such as one that was renamed to keep it; hidden ones do not count."""
    checkpoints = set(checkpoints_in(folder))
    return sorted(path.name for path in _entries(folder) if path not in checkpoints and not path.name.startswith("."))


def superfluous(paths: list[Path], keep: int, every: int | None, best: Path | None = None) -> list[Path]:
    """Those of `paths`, oldest first, that go: all but the newest `keep`, those at multiples of `every` updates, and
    `best`."""
    return [path for path in paths[:-keep] if path != best and (every is None or update_of(path) % every)]


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
