"""Samplers and judges without weights, and small plans on disk."""

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.evaluation.folder import JudgeEntry, ModelEntry, Plan, PlanFolder
from benchmarks.evaluation.metric_adapters import Judge, Sample
from benchmarks.evaluation.prompts import Prompt, PromptSet
from benchmarks.evaluation.protocols import PROTOCOLS, Protocol, with_changes
from benchmarks.evaluation.samplers import Job, Sampler


class FakeSampler(Sampler):
    """Noise from the job's seed; `broken` prompts raise, `stop_after` samples a user presses Ctrl-C."""

    def __init__(self, broken: Sequence[str] = (), stop_after: int | None = None, size: int = 12, frames: int = 1):
        self.broken, self.stop_after, self.size, self.frames = set(broken), stop_after, size, frames
        self.drawn: list[Job] = []

    def draw(self, jobs):
        if self.stop_after is not None and len(self.drawn) >= self.stop_after:
            raise KeyboardInterrupt
        if bad := [job.prompt for job in jobs if job.prompt in self.broken]:
            raise FloatingPointError(f"not finite for {bad[0]}")
        self.drawn += jobs
        return torch.stack([self._frames(job) for job in jobs])

    def _frames(self, job: Job) -> torch.Tensor:
        generator = torch.Generator().manual_seed(job.seed)
        return torch.randint(0, 256, (self.frames, self.size, self.size, 3), generator=generator, dtype=torch.uint8)

    def truncated(self, prompts):
        return []

    def describe(self):
        return {"pipeline": "Fake", "solver": "none", "dtype": "float32", "device": "cpu"}


class FakeJudge(Judge):
    """Mean brightness as `clip_score`; `broken` samples raise."""

    metric = "clip_score"
    fingerprint = "f" * 64
    about = {"metric": "clip_score", "column": "clip_score"}  # noqa: RUF012

    def __init__(self, broken: Sequence[str] = ()):
        self.broken = set(broken)
        self.seen = 0

    def values(self, samples: Sequence[Sample]) -> list[dict[str, float]]:
        if bad := [sample.prompt for sample in samples if sample.prompt in self.broken]:
            raise ValueError(f"cannot judge {bad[0]}")
        self.seen += len(samples)
        return [{"clip_score": sample.frames.double().mean().item()} for sample in samples]


def prompt_set(count: int = 6, kind: str = "image", end: str = "") -> PromptSet:
    prompts = [Prompt(f"p{n}", f"prompt {n}{end}", (("kind", "even" if n % 2 == 0 else "odd"),)) for n in range(count)]
    return PromptSet(f"smoke-{kind}", tuple(prompts), count, "smoke.txt", "0" * 64)


def protocol(kind: str = "image", **changes) -> Protocol:
    return with_changes(PROTOCOLS[f"smoke-{kind}"], {"references": False, "seeds": (0, 1), **changes})


def entry(name: str) -> ModelEntry:
    return ModelEntry(name, f"/models/{name}", f"{name:0>16}", {"model": {"kind": "pipeline"}, "versions": {}})


def open_plan(
    root: Path, names: Sequence[str] = ("base", "tuned"), count: int = 6, **changes
) -> tuple[PlanFolder, Plan]:
    folder = PlanFolder(root / "out", root / "cache")
    return folder, folder.open(Plan(protocol(**changes), prompt_set(count), tuple(map(entry, names))))


def judge_entry() -> JudgeEntry:
    return JudgeEntry("clip_score", FakeJudge.fingerprint, FakeJudge.about, 0)
