"""The time, machine and library versions of a run. Without torch."""

import platform
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("seppo", "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "numpy", "xformers")


def environment() -> dict[str, str | None]:
    """Time, machine, commit and library versions, for reports."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = None
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "commit": git_commit(),
        **found,
    }


def git_commit() -> str | None:
    """Commit of the source tree this package runs from, with "-dirty" if it has changes; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
