"""What the demo does: its arms, and the commands that make and judge them, as a graph of tasks."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.experiments.demo.watch import Watch, judge_progress, watch_judge, watch_training
from benchmarks.experiments.toy.task.captions import Modality, held_out
from seppo_core.config.loader import load_config
from seppo_core.config.schema import Config
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs" / "toy"
SCHEMAS: dict[Modality, type[Config]] = {"image": ImageConfig, "video": VideoConfig}
PROGRAMS: dict[Modality, str] = {"image": "seppo_image", "video": "seppo_video"}

ARMS = ("base", "continued", "sft", "seppo", "seppo_anchor_off")
NAMES = {
    "base": "base",
    "continued": "continued",
    "sft": "SFT",
    "seppo": "SePPO",
    "seppo_anchor_off": "SePPO, anchor off",
}
RECIPES = {"continued": "continued", "sft": "sft", "seppo": "seppo", "seppo_anchor_off": "anchor_off"}
"""The arms that are trained, and the config in configs/toy behind each: <modality>_<recipe>.yaml."""
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
    """Of the held-out ones; None takes all."""
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
    """Removes what an interrupted run of this task left, where the task itself cannot go on from it."""


@dataclass(frozen=True)
class Places:
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
        return self.out / modality / RECIPES[arm]

    def scores(self, modality: Modality) -> Path:
        """One folder per arm lies here."""
        return self.out / modality / "scores"

    def log(self, task: str) -> Path:
        return self.out / "logs" / f"{task.replace('/', '-')}.log"


def config_path(modality: Modality, arm: str) -> Path:
    """The YAML behind an arm."""
    return CONFIGS / f"{modality}_{RECIPES[arm]}.yaml"


def load_configs(modality: Modality) -> dict[str, Config]:
    """The trained arms' configs; ValueError where the arms could not be compared."""
    configs = {arm: load_config(config_path(modality, arm), SCHEMAS[modality]) for arm in RECIPES}
    for what, of in (
        ("model", lambda c: c.model),
        ("number of updates", lambda c: c.loop.iterations * c.loop.updates),
        ("batch size", lambda c: c.loop.batch_size),
        ("sampler", lambda c: (c.preview.scheduler, c.preview.steps, c.preview.guidance_scale)),
    ):
        found = {arm: of(config) for arm, config in configs.items()}
        if len(set(found.values())) > 1:
            told = "; ".join(f"{config_path(modality, arm).name}: {value}" for arm, value in found.items())
            raise ValueError(f"the demo compares {modality} arms, which must share the {what}, but they do not: {told}")
    return configs


def data_kind(arm: str) -> str:
    """Which set an arm is trained on."""
    return "continued" if arm == "continued" else "winners"


def plan(places: Places, modalities: tuple[Modality, ...], seed: int, scale: Scale) -> list[Task]:
    """All tasks, in the order in which they are best begun; the cheap way to see what the demo will do."""
    tasks = [_write_data(places, seed, scale)]
    for modality in modalities:
        configs = load_configs(modality)
        tasks += [_prepare(places, modality, kind) for kind in ("winners", "continued")]
        # the longest first, so that no worker is left with a long task at the end
        tasks += [
            _train(places, modality, arm, configs[arm], seed, scale)
            for arm in ("seppo", "seppo_anchor_off", "sft", "continued")
        ]
        tasks += [_judge(places, modality, arms, seed, scale) for arms in JUDGED_TOGETHER]
    return tasks


def _write_data(places: Places, seed: int, scale: Scale) -> Task:
    data = places.out / "data"
    command = (
        "-m",
        "benchmarks.experiments.demo.write_data",
        str(data),
        str(seed),
        str(scale.images),
        str(scale.clips),
    )
    return Task("data", "writing the toy sets", None, command, weight=8, clear=lambda: shutil.rmtree(data, True))


def _paths(places: Places, modality: Modality, kind: str) -> tuple[str, ...]:
    source, cache = places.data(modality, kind), places.cache(modality, kind)
    return ("--data.source", str(source), "--data.cache", str(cache))


def _prepare(places: Places, modality: Modality, kind: str) -> Task:
    arm = next(arm for arm in RECIPES if data_kind(arm) == kind)
    config = str(config_path(modality, arm).relative_to(ROOT))
    command = ("-m", PROGRAMS[modality], "prepare", config, *_paths(places, modality, kind))
    label = "encoding the winners" if kind == "winners" else "encoding the control's data"
    return Task(f"{modality}/prepare/{kind}", label, modality, command, ("data",), weight=3)


def _train(places: Places, modality: Modality, arm: str, config: Config, seed: int, scale: Scale) -> Task:
    folder = places.run(modality, arm)
    options = (
        "--run", str(folder), "--seed", str(seed), *_paths(places, modality, data_kind(arm)),
        "--loop.keep_checkpoints", "1000", *scale.overrides,
    )  # fmt: skip
    command = ("-m", PROGRAMS[modality], "train", str(config_path(modality, arm).relative_to(ROOT)), *options)
    sample, pair, winner = COSTS[modality]
    uses = config.loop.iterations * config.loop.updates * config.loop.batch_size
    weight = uses * (sample + pair if config.method.name == "seppo" else winner)
    return Task(
        f"{modality}/train/{arm}", NAMES[arm], modality, command, (f"{modality}/prepare/{data_kind(arm)}",),
        weight=2 + weight, watch=watch_training(folder, SCHEMAS[modality]),
    )  # fmt: skip


def _judge(places: Places, modality: Modality, arms: tuple[str, ...], seed: int, scale: Scale) -> Task:
    command = (
        "-m", "benchmarks.experiments.demo.judge", modality, str(places.out), *arms, "--seed", str(seed),
        "--seeds", str(scale.seeds[modality]), "--batch", str(scale.batch[modality]),
        "--curve-points", str(scale.curve_points[modality]),
        *(() if scale.prompts is None else ("--prompts", str(scale.prompts))),
    )  # fmt: skip
    name = f"{modality}/score/{arms[0]}"
    needs = tuple(f"{modality}/train/{arm}" for arm in arms if arm in RECIPES)
    label = "scoring " + ", ".join(NAMES[arm] for arm in arms)
    watch = watch_judge(judge_progress(places.scores(modality), arms))
    count = len(held_out(modality)) * len(arms) * (scale.seeds[modality] + scale.curve_points[modality] - 1)
    return Task(name, label, modality, command, needs, weight=2 + count * COSTS[modality][0], watch=watch)
