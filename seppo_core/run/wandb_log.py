"""Weights & Biases, where the package is installed and a config asks for it."""

import secrets
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seppo_core.io.atomic import save_text


class ProjectLog:
    """One run of a project, which a resumed run goes on with: its id lies in the run folder as `wandb.txt`.

    Whether it talks to a server is wandb's own business (WANDB_MODE=offline keeps it on disk).
    """

    def __init__(self, project: str, folder: Path, config: dict[str, Any]):
        require_wandb()
        import wandb

        path = folder / "wandb.txt"
        if not path.exists():
            save_text(path, secrets.token_hex(4) + "\n")
        self._run = wandb.init(
            project=project, name=folder.name, id=path.read_text(encoding="utf-8").strip(), resume="allow",
            dir=str(folder), config=config,
        )  # fmt: skip

    def write(self, update: int, metrics: dict[str, float | int]) -> None:
        """Scalars of one update; wandb leaves out updates that it has already, which a resumed run does again."""
        self._run.log(dict(metrics), step=update)

    def close(self) -> None:
        self._run.finish()


def require_wandb() -> None:
    """ValueError where wandb is not installed: to be asked before weights load."""
    if find_spec("wandb") is None:
        raise ValueError("log.wandb names a project, but wandb is not installed: pip install wandb, or leave it out")
