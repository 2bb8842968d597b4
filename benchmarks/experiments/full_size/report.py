"""Results of the cases beside the figures of `plan`, kept in JSON, and the table of docs/full_size.md."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FORMAT = 1
PHASES = ("prepare", "sampling", "update")
"""Phases of which memory is measured."""


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
    """Loss of the one update; log 2 because the reference is still the policy."""
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
    """Seconds of the commands, loading included."""
    date: str
    commit: str | None
    machine: str
    threads: int


def read_results(path: Path) -> dict[str, Result]:
    """Results by case; empty if none was written yet. ValueError for a file of another format."""
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


HEAD = """\
# At published sizes

`python -m benchmarks full_size` writes a folder with the architecture of a published base and random weights, and gives
the commands of its recipe: `prepare`, `train` (one update of one item, its sampled reference, previews of images), and
`export`. No GPU, no published weights: this shows that the commands stand the size and what `plan`'s counting is worth.

- Memory: the most that the system saw, less an idle process's, in GiB and as a share of what `plan` counts for the same
  config: without its GiB for CUDA, with what would wait beside a GPU. `prepare` is the whole command; sampling and
  update are of `train`: a reference's sample is drawn, an image decoded, and policy and reference predict from it.
- The loss of a first update is log 2, for the reference is still the policy. Parameters, and those trained, are
  `plan`'s. Other work ran beside it, so the seconds do not compare.

| Base | Size | Tuned | Parameters (trained) | prepare: GiB, of plan's | sampling | update | An update |
|---|---|---|---|---|---|---|---|
"""


def markdown(results: dict[str, Result]) -> str:
    """The whole file."""
    notes = sorted({f"{r.date} at `{r.commit}`, {r.threads} threads of an {r.machine}" for r in results.values()})
    return HEAD + "".join(_row(result) for result in results.values()) + "\nRun " + "; ".join(notes) + ".\n"


def _row(r: Result) -> str:
    cells = [
        f"{r.about}{f' ({r.less})' if r.less else ''}",
        r.size,
        {"lora": "LoRA", "full": "all weights"}[r.tune],
        f"{millions(r.denoiser)} ({millions(r.trained)})",
        _beside(r.prepare),
        _beside(r.sampling),
        _beside(r.update),
        f"{r.update_seconds:,.0f} s",
    ]
    return f"| {' | '.join(cells)} |\n"


def _beside(of: Beside) -> str:
    return f"{of.measured / 1024**3:.1f}, {of.ratio:.2f}"


def millions(count: int) -> str:
    """As people say it: 860 M, 2.57 B."""
    return (
        f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.0f} M" if count >= 1e7 else f"{count / 1e6:.1f} M"
    )
