"""The demo's plan: its arms, the commands that make and judge them as a graph of tasks, and how far each is."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.experiments.toy.arms import ARMS as EVERY_ARM
from benchmarks.experiments.toy.arms import PROGRAMS, SCHEMAS, Arm
from benchmarks.experiments.toy.plan import arm_config, config_path
from benchmarks.experiments.toy.task.captions import Modality, held_out
from seppo_core.config.loader import load_config
from seppo_core.config.schema import Config


class Step(NamedTuple):
    """Where a task stands: `done` of `total` units (updates, samples), and the share of its time that has passed."""

    unit: str
    done: int
    total: int
    share: float
    note: str = ""


Watch = Callable[[], Step | None]
"""None: nothing can be seen yet."""

FILL = 0.57  # of an iteration's time goes into the reference's samples: what was measured on the toy models


def watch_training(folder: Path, schema: type[Config]) -> Watch:
    """Follows a `train` command by the metrics and the samples in its run folder."""
    known: list[Config] = []

    def watch() -> Step | None:
        if not known:
            if not (folder / "config.yaml").is_file():
                return None
            known.append(load_config(folder / "config.yaml", schema))
        loop, method = known[0].loop, known[0].method
        done = lines(folder / "metrics.jsonl")
        total = loop.iterations * loop.updates_per_iteration
        iteration, inside = divmod(done, loop.updates_per_iteration)
        if method.name == "sft":
            return Step("update", done, total, done / total)
        filled, note = 1.0, ""
        if inside == 0 and iteration < loop.iterations:
            size = loop.updates_per_iteration * loop.batch_size
            batch = known[0].reference_samples.batch_size
            chunks = len(list((folder / "buffer").glob(f"iteration-{iteration:04d}-by-*/samples-*.safetensors")))
            filled = min(1.0, chunks * batch / size)
            if filled < 1:
                note = f", reference sample {min(chunks * batch, size)}/{size}"
        within = (
            FILL * filled + (1 - FILL) * inside / loop.updates_per_iteration if iteration < loop.iterations else 0.0
        )
        return Step("update", done, total, (iteration + within) / loop.iterations, note)

    return watch


def watch_judge(progress: Path) -> Watch:
    """Follows the judge by the counts it leaves in a file of its own."""

    def watch() -> Step | None:
        try:
            done, total = json.loads(progress.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return Step("sample", done, total, done / total)

    return watch


def lines(path: Path) -> int:
    """Whole lines of a file that may not be there yet."""
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def judge_progress(scores: Path, arms: Sequence[str]) -> Path:
    """The file that a judge of `arms` counts in; `scores` is the folder of all arms' scores."""
    return scores / f".{arms[0]}.progress"


ARMS: dict[str, Arm] = {
    "base": EVERY_ARM["base"],
    "continued": EVERY_ARM["continued"],
    "sft": EVERY_ARM["sft"],
    "seppo": EVERY_ARM["seppo"],
    "seppo_anchor_off": EVERY_ARM["anchor_off"],
}
"""Five arms of the comparison, under the names that the demo's files have."""
TRAINED = tuple(name for name, arm in ARMS.items() if arm.config is not None)
COSTS: dict[Modality, tuple[float, float, float]] = {"image": (0.011, 0.0076, 0.004), "video": (0.094, 0.073, 0.035)}
"""Seconds of one core per generated sample, per pair trained on and per winner trained on: only for the time left."""
JUDGED_TOGETHER = (("base",), ("continued", "sft"), ("seppo", "seppo_anchor_off"))
"""Arms that one process scores. The base waits for no training, so that a worker with nothing else to do takes it."""


@dataclass(frozen=True)
class Scale:
    """How much is made and judged. The defaults are the demo; tests make it smaller."""

    images: int = 768
    clips: int = 288
    seeds: dict[Modality, int] = field(default_factory=lambda: {"image": 8, "video": 5})
    """Noises per held-out prompt, the same for every arm."""
    prompts: int | None = None
    """Number of held-out prompts; None takes all."""
    curve_points: dict[Modality, int] = field(default_factory=lambda: {"image": 3, "video": 2})
    """Checkpoints of each arm that are scored, the last included."""
    batch: dict[Modality, int] = field(default_factory=lambda: {"image": 64, "video": 16})
    overrides: tuple[str, ...] = ()
    """Options for every `train`, e.g. ("--loop.iterations", "1")."""


@dataclass(frozen=True)
class Task:
    """One process of the demo. `command` follows `python`; `weight` is its expected share of the time."""

    name: str
    label: str
    modality: Modality | None
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    weight: float = 1.0
    watch: Watch = lambda: None
    clear: Callable[[], None] = lambda: None
    """Removes what an interrupted run of this task left, if the task itself cannot go on from it."""


@dataclass(frozen=True)
class DemoPaths:
    """Where things lie under the demo's folder."""

    out: Path

    def data(self, modality: Modality, kind: str) -> Path:
        """A captioned folder: kind is winners, losers or continued."""
        return self.out / "data" / modality / kind

    def prompts(self, modality: Modality) -> Path:
        return self.out / "data" / modality / "prompts.txt"

    def cache(self, modality: Modality, kind: str) -> Path:
        return self.out / "cache" / modality / kind

    def run(self, modality: Modality, arm: str) -> Path:
        return self.out / modality / ARMS[arm].config

    def scores(self, modality: Modality) -> Path:
        """One folder per arm lies here."""
        return self.out / modality / "scores"

    def log(self, task: str) -> Path:
        return self.out / "logs" / f"{task.replace('/', '-')}.log"


def load_configs(modality: Modality) -> dict[str, Config]:
    """The trained arms' configs; ValueError if the arms could not be compared."""
    configs = {arm: arm_config(modality, ARMS[arm]) for arm in TRAINED}
    for what, of in (
        ("model", lambda c: c.model),
        ("number of updates", lambda c: c.loop.iterations * c.loop.updates_per_iteration),
        ("batch size", lambda c: c.loop.batch_size),
        ("sampler", lambda c: (c.preview.scheduler, c.preview.steps, c.preview.guidance_scale)),
    ):
        found = {arm: of(config) for arm, config in configs.items()}
        if len(set(found.values())) > 1:
            told = "; ".join(f"{config_path(modality, ARMS[arm]).name}: {value}" for arm, value in found.items())
            raise ValueError(f"the demo compares {modality} arms, which must share the {what}, but they do not: {told}")
    return configs


def plan(paths: DemoPaths, modalities: tuple[Modality, ...], seed: int, scale: Scale) -> list[Task]:
    """All tasks, in the order in which they are best begun; the cheap way to see what the demo will do."""
    tasks = [_write_data(paths, seed, scale)]
    for modality in modalities:
        configs = load_configs(modality)
        tasks += [_prepare(paths, modality, kind) for kind in ("winners", "continued")]
        # the longest first, so that no worker is left with a long task at the end
        tasks += [
            _train(paths, modality, arm, configs[arm], seed, scale)
            for arm in ("seppo", "seppo_anchor_off", "sft", "continued")
        ]
        tasks += [_judge(paths, modality, arms, seed, scale) for arms in JUDGED_TOGETHER]
    return tasks


def _write_data(paths: DemoPaths, seed: int, scale: Scale) -> Task:
    data = paths.out / "data"
    command = (
        "-m",
        "benchmarks.experiments.toy.data",
        "demo",
        str(data),
        str(seed),
        str(scale.images),
        str(scale.clips),
    )
    return Task("data", "writing the toy sets", None, command, weight=8, clear=lambda: shutil.rmtree(data, True))


def _paths(paths: DemoPaths, modality: Modality, kind: str) -> tuple[str, ...]:
    source, cache = paths.data(modality, kind), paths.cache(modality, kind)
    return ("--data.source", str(source), "--data.cache", str(cache))


def _prepare(paths: DemoPaths, modality: Modality, kind: str) -> Task:
    arm = next(arm for arm in TRAINED if ARMS[arm].data == kind)
    config = str(config_path(modality, ARMS[arm]))
    command = ("-m", PROGRAMS[modality], "prepare", config, *_paths(paths, modality, kind))
    label = "encoding the winners" if kind == "winners" else "encoding the control's data"
    return Task(f"{modality}/prepare/{kind}", label, modality, command, ("data",), weight=3)


def _train(paths: DemoPaths, modality: Modality, arm: str, config: Config, seed: int, scale: Scale) -> Task:
    folder = paths.run(modality, arm)
    options = (
        "--run", str(folder), "--seed", str(seed), *_paths(paths, modality, ARMS[arm].data),
        "--loop.keep_checkpoints", "1000", *scale.overrides,
    )  # fmt: skip
    command = ("-m", PROGRAMS[modality], "train", str(config_path(modality, ARMS[arm])), *options)
    sample, pair, winner = COSTS[modality]
    uses = config.loop.iterations * config.loop.updates_per_iteration * config.loop.batch_size
    weight = uses * (sample + pair if config.method.name == "seppo" else winner)
    return Task(
        f"{modality}/train/{arm}", ARMS[arm].name, modality, command, (f"{modality}/prepare/{ARMS[arm].data}",),
        weight=2 + weight, watch=watch_training(folder, SCHEMAS[modality]),
    )  # fmt: skip


def _judge(paths: DemoPaths, modality: Modality, arms: tuple[str, ...], seed: int, scale: Scale) -> Task:
    command = (
        "-m", "benchmarks.experiments.toy.judge", modality, str(paths.out), *arms, "--seed", str(seed),
        "--seeds", str(scale.seeds[modality]), "--batch", str(scale.batch[modality]),
        "--curve-points", str(scale.curve_points[modality]),
        *(() if scale.prompts is None else ("--prompts", str(scale.prompts))),
    )  # fmt: skip
    name = f"{modality}/score/{arms[0]}"
    needs = tuple(f"{modality}/train/{arm}" for arm in arms if arm in TRAINED)
    label = "scoring " + ", ".join(ARMS[arm].name for arm in arms)
    watch = watch_judge(judge_progress(paths.scores(modality), arms))
    count = len(held_out(modality)) * len(arms) * (scale.seeds[modality] + scale.curve_points[modality] - 1)
    return Task(name, label, modality, command, needs, weight=2 + count * COSTS[modality][0], watch=watch)
