"""Finds what is not as it was written in a run's folder, and in the base that the run was begun on."""

from pathlib import Path

from seppo_core.config.model import ModelConfig
from seppo_core.io.ledger import Ledger
from seppo_core.models.fingerprint import changed_parts
from seppo_core.run.checkpoint import CheckpointFolder
from seppo_core.run.folder import recorded_models


def run_damage(folder: Path, model: ModelConfig) -> list[str]:
    """A line about every file of the run in `folder` that is not as it was written, and every part of `model` that is
    not as it was when the run began. Empty if there is no run, or nothing was recorded."""
    found = []
    for place in (folder, *CheckpointFolder(folder / "checkpoints").list()):
        try:
            found += [f"{place / name} {problem}" for name, problem in Ledger(place).problems().items()]
        except ValueError as error:
            found.append(str(error))
    try:
        recorded = recorded_models(folder)
    except ValueError as error:
        return [*found, str(error)]
    for fingerprint in recorded.values():
        found += [f"the {name} of model.base={model.base} is not what {folder} was begun on"
                  for name in changed_parts(fingerprint, model)]  # fmt: skip
    return found
