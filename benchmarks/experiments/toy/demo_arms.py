"""What the demo compares, how long each arm is trained, and where everything lies under the demo's folder."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.experiments.toy.arms import ROOT, SCHEMAS
from seppo_core.config.loader import load_config
from seppo_core.config.schema import Config
from seppo_core.toy.captions import Modality

CONFIGS = Path("configs/toy")


@dataclass(frozen=True)
class DemoArm:
    """One model of the comparison. `config` is the YAML behind it, `configs/toy/<modality>_<config>.yaml`."""

    name: str
    about: str
    config: str | None
    """None is the base."""
    data: Literal["winners", "continued"] = "winners"
    """The base's own samples, ranked, or fresh draws of what it was trained on."""
    options: tuple[str, ...] = ()
    """Options of `train`, beside those that all arms have."""

    def path(self, modality: Modality) -> Path:
        """The YAML, relative to the checkout. ValueError for the base, which has none."""
        if self.config is None:
            raise ValueError(f"{self.name} is not trained and has no config")
        return CONFIGS / f"{modality}_{self.config}.yaml"


BETA = ("--method.beta", "1")
RIVAL = ("--method.beta", "10", "--method.sft_weight", "10")
ARMS: dict[str, DemoArm] = {
    "base": DemoArm("base", "the model as it was, before any alignment", None),
    "continued": DemoArm(
        "continued", "trained on as before, on fresh draws of its own training data", "continued", "continued"
    ),
    "sft": DemoArm("SFT", "fine-tuned on the winners alone", "sft"),
    "seppo": DemoArm(
        "SePPO",
        "winners against further samples of the base, the anchor leaving out those that would count wrongly",
        "seppo_indicator_initial",
        options=BETA,
    ),
    "dpo": DemoArm(
        "DPO + winner term",
        "winners against the worst sample of the same prompt: the only arm that is told the losers",
        "dpo_sft",
        options=RIVAL,
    ),
    "anchor_off": DemoArm(
        "SePPO, anchor off",
        "the same loss and the same samples without the anchor",
        "seppo_indicator_initial",
        options=(*BETA, "--method.flipper", "off"),
    ),
    "published": DemoArm(
        "SePPO, as published", "a random earlier snapshot as the reference, and s = −1 for its better samples", "seppo",
        options=BETA,
    ),
    "gt_pair": DemoArm(
        "GT-Pair", "winners against further samples of the base, with a winner term in place of the anchor", "gt_pair",
        options=RIVAL,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How much is drawn, trained and judged in one modality; the same for every arm."""

    arms: tuple[str, ...]
    updates: int
    batch: int
    rate: float
    """Learning rate, after `warmup` updates."""
    warmup: int
    steps: int
    """Denoising steps of every sample: those that are ranked, the reference's, and those that are judged."""
    seeds: int
    """Samples of every held-out prompt, from the same noise for every arm."""
    continued: int
    """Draws that continued training sees."""
    at_once: int
    """Samples drawn at once."""
    scheduler: str = "ddim"
    """Solver of every sample."""
    repeat_after: int | None = None
    """Own samples of each winner, which come again after that; None draws anew every time."""
    average: float | None = None
    """Decay of the running average of the weights that is judged, at a level rate; None judges the last weights of a
    rate that falls to zero along a line."""
    samples: int = 4
    """Samples of the base for each training prompt, of which the best is the winner and the worst the loser."""
    iterations: int = 2
    points: int = 2
    """Checkpoints of an arm that are scored, the last included; those before it with the first seed alone."""
    training: int | None = None
    """Number of training prompts; None takes all."""
    prompts: int | None = None
    """Number of held-out prompts; None takes all."""

    @property
    def each(self) -> int:
        """Updates of an iteration."""
        return self.updates // self.iterations


SHORT: dict[Modality, tuple[str, ...]] = {
    "image": ("base", "continued", "sft", "seppo", "dpo", "anchor_off"),
    "video": ("base", "continued", "sft", "seppo", "anchor_off"),
}
RECIPES: dict[Modality, Recipe] = {
    "image": Recipe(
        SHORT["image"], updates=70, batch=16, rate=2e-3, warmup=10, steps=6, seeds=2, continued=384, at_once=64
    ),
    # few steps of ddim change these clips much; unipc's of half as many are as good. Without an average the gain hangs
    # on the seed: +.065 and +.008 of two
    "video": Recipe(
        SHORT["video"], updates=48, batch=8, rate=5e-4, warmup=4, steps=8, scheduler="unipc", seeds=2, continued=96,
        at_once=16, average=0.95, repeat_after=2, points=1, training=48,
    ),
}  # fmt: skip
"""`make demo`: images within 90 seconds of two slow cores, clips within four minutes."""
FULL: dict[Modality, Recipe] = {
    "image": replace(RECIPES["image"], arms=tuple(ARMS), updates=400, iterations=4, seeds=8, points=4),
    "video": replace(
        RECIPES["video"], arms=tuple(ARMS), updates=200, iterations=4, seeds=5, points=2, training=None,
        repeat_after=None,
    ),
}  # fmt: skip
"""`make demo-full`."""
PASS: dict[Modality, float] = {"image": 0.0017, "video": 0.018}
"""Seconds of one slow core for a forward pass of one sample, a backward pass counted as two: for the time left."""


def trained(arms: Iterable[str]) -> tuple[str, ...]:
    """Those of `arms` that are trained."""
    return tuple(arm for arm in arms if ARMS[arm].config is not None)


def load_configs(modality: Modality, arms: tuple[str, ...]) -> dict[str, Config]:
    """The trained arms' configs as their YAML has them; ValueError if the arms could not be compared."""
    configs = {arm: load_config(ROOT / ARMS[arm].path(modality), SCHEMAS[modality]) for arm in trained(arms)}
    for what, of in (
        ("model", lambda c: c.model),
        ("size", lambda c: (c.data.height, c.data.width, c.data.frames)),
        ("sampler", lambda c: (c.preview.scheduler, c.preview.guidance_scale)),
    ):
        found = {arm: of(config) for arm, config in configs.items()}
        if len(set(found.values())) > 1:
            told = "; ".join(f"{ARMS[arm].path(modality).name}: {value}" for arm, value in found.items())
            raise ValueError(f"the demo compares {modality} arms, which must share the {what}, but they do not: {told}")
    return configs


@dataclass(frozen=True)
class DemoPaths:
    """Where things lie under the demo's folder."""

    out: Path

    def data(self, modality: Modality, kind: str) -> Path:
        """What `prepare` reads: kind is winners, a folder that `rank` wrote, or continued, a captioned folder."""
        return self.out / "data" / modality / kind

    def prompts(self, modality: Modality, kind: Literal["training", "held-out"]) -> Path:
        """A text file with one prompt per line."""
        return self.out / "data" / modality / f"{kind}.txt"

    def cache(self, modality: Modality, kind: str) -> Path:
        return self.out / "cache" / modality / kind

    def run(self, modality: Modality, arm: str) -> Path:
        return self.out / modality / arm

    def scores(self, modality: Modality) -> Path:
        """One folder per arm lies here."""
        return self.out / modality / "scores"

    def picture(self, modality: Modality) -> Path:
        """The labelled grid of samples: a picture, or clips that play."""
        return self.out / ("images.png" if modality == "image" else "clips.gif")

    def log(self, task: str) -> Path:
        return self.out / "logs" / f"{task.replace('/', '-')}.log"


def entries() -> list[str]:
    """Everything that a demo makes under its folder, its marker aside."""
    paths, found = DemoPaths(Path()), ["report.json", "report.md", "index.html", "data", "cache", "logs"]
    for modality in RECIPES:
        runs = [paths.run(modality, arm) for arm in trained(ARMS)]
        found += map(str, [paths.picture(modality), paths.scores(modality), *runs])
    return found
