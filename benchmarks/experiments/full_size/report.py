"""The table of docs/full_size.md."""

from benchmarks.experiments.full_size.result import Beside, Result

HEAD = """\
# At published sizes

`python -m benchmarks full_size` writes a folder with the architecture of a published base and random weights, and gives
the commands of its recipe: `prepare`, `train` (one update of one item, its sampled reference, previews of images), and
`export`. No GPU, no published weights: this shows that the commands stand the size and what `plan`'s counting is worth.

- Memory: the most that the system saw, less an idle process's, in GiB and as a share of what `plan` counts for the same
  config: without its GiB for CUDA, with what would wait beside a GPU. `prepare` is the whole command; sampling and
  update are of `train`: a reference's sample is drawn, an image decoded, and policy and reference predict from it.
- The loss of a first update is log 2, for the reference is still the policy. Parameters, and those trained, are
  `plan`'s. Other work ran beside it, so that the seconds are no measure.

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
