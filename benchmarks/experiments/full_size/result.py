"""What a case yields: figures beside `plan`'s, in a file that keeps those of earlier cases."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FORMAT = 1
PHASES = ("prepare", "sampling", "update")
"""Of which memory is measured."""


@dataclass(frozen=True)
class Beside:
    """Bytes: what the system counted, less those of an idle process, and what `plan` counts."""

    measured: int
    planned: int

    @property
    def ratio(self) -> float:
        return self.measured / self.planned


@dataclass(frozen=True)
class Result:
    """One case, run to its end."""

    case: str
    family: str
    about: str
    less: str
    size: str
    """Frames and pixels."""
    tune: str
    denoiser: int
    """Parameters of the base's, and of the motion modules in it."""
    whole: int
    """Those of the whole pipeline."""
    trained: int
    """Numbers in the checkpoint's policy."""
    planned_denoiser: int
    planned_trained: int
    loss: float
    """Of the one update; log 2 where the reference is still the policy."""
    winner_error: float
    grad_norm: float
    moved: int
    """Numbers of the policy that the update changed."""
    prepare: Beside
    sampling: Beside
    """While `train` draws and decodes the reference's sample."""
    update: Beside
    exported: int
    """Numbers in the export's weights."""
    update_seconds: float
    seconds: dict[str, float]
    """Of the commands, loading included."""
    date: str
    commit: str | None
    machine: str
    threads: int


def read_results(path: Path) -> dict[str, Result]:
    """By case; empty where nothing was written yet. ValueError for a file of another kind."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is of format {content.get('format')}, this is {FORMAT}; write to another --out")
    results = {}
    for name, values in content["cases"].items():
        results[name] = Result(**values | {phase: Beside(**values[phase]) for phase in PHASES})
    return results


def as_json(results: dict[str, Result]) -> dict:
    return {"format": FORMAT, "cases": {name: asdict(result) for name, result in results.items()}}
