"""The cells of the comparison, in the order in which half a table is worth most."""

import json
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

import yaml

from benchmarks.experiments.toy.arms import ARMS, ROOT, SCHEMAS, TIERS, Arm, passes_per_item
from benchmarks.experiments.toy.task.captions import Modality
from seppo_core.config.aliases import FIRST
from seppo_core.config.loader import load_config
from seppo_core.config.schema import Config

REVISION = 2
"""Raised when a change anywhere makes stored cells another experiment: they are then left aside and done anew."""
CONFIGS = Path("configs/toy")
TUNING_SEED = 0
LADDER = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Learning rates beyond those that every arm is tried at."""
BETAS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""Values of beta that are tried where beta is tuned."""
WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Weights of the winner term that are tried where it is tuned."""


@dataclass(frozen=True)
class Scale:
    """How much is trained and judged; the same for every arm of a modality.

    The defaults fit a cell of images into half a minute of one core (AMD EPYC; SFT 8 s, SePPO 20 s, compute-matched SFT
    30 s, of which judging and the anchor take 3 to 5), a table into about 50 minutes of one core, and the other regimes
    into 25 more. What is None is as the configs say.
    """

    size: int = 672
    """Winners, and as many pairs."""
    iterations: int | None = 3
    updates: int | None = 20
    batch_size: int | None = 16
    warmup: int | None = 10
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Learning rates that every arm is tried at."""
    extend: int = 2
    """Steps on LADDER that an arm goes on beyond them while its best rate is the lowest or the highest."""
    beta: float | None = None
    """The beta that every arm's search begins at, from which it is tuned; None leaves what the configs say."""
    weight: float | None = None
    """The same of the winner term's weight."""
    schedule: str | None = None
    """Of the learning rate; None leaves what the configs say."""
    tuning_iterations: int | None = None
    """Iterations while settings are chosen; None is as many as in the end."""
    samples: int = 4
    """Samples of the base for a caption of the `own` regime, of which the best wins."""
    rounds: int = 2
    """How often each caption is asked for there."""
    noises: int = 4
    """Samples of every prompt, the same noise for every arm."""
    tuning_noises: int = 3
    prompts: int | None = None
    """Test prompts; None takes all that are held out."""
    anchor_items: int = 48
    anchor_draws: int = 4


SCALES: dict[Modality, dict[str, Scale]] = {
    "image": {
        "own": Scale(
            iterations=5,
            updates=80,
            batch_size=16,
            warmup=20,
            rates=(3e-4, 1e-3),
            beta=10.0,
            weight=10.0,
            schedule="constant",
            tuning_iterations=3,
        ),
        "quick": Scale(),
        "full": Scale(iterations=None, updates=None, batch_size=None, warmup=None),
    },
    "video": {
        "own": Scale(
            252,
            4,
            60,
            8,
            20,
            rates=(3e-4, 1e-3),
            beta=10.0,
            weight=10.0,
            schedule="constant",
            tuning_iterations=2,
            noises=2,
            tuning_noises=2,
            anchor_items=24,
        ),
        "quick": Scale(252, 2, 12, 6, 6, noises=2, tuning_noises=2, anchor_items=24),
        "full": Scale(252, None, None, None, None, noises=4),
    },
}


Setting = tuple[float | None, float | None, float | None]
"""Learning rate, beta, weight of the winner term; None is what the config says."""
OWN_DATA = {"winners": "own_winners", "pairs": "own_pairs", "labels": "own_labels"}
"""Kinds of data in the `own` regime."""
BaseName = Literal["main", "strong"]
"""The base that ships, or that one tuned on the winners first."""
STRONG = ("--seed", "1000", "--optimizer.lr", "0.001", "--loop.iterations", "1", "--loop.updates_per_iteration", "400")
"""How the strong base is trained. Its score on validation prompts no longer rises after that (LOG.md)."""


@dataclass(frozen=True)
class Regime:
    """Conditions under which the arms are compared. `winners` is the data set in their place."""

    name: str
    text: str
    winners: Literal["winners", "few", "weak"] = "winners"
    own: bool = False
    """Whether winners, pairs and labels are among the base's own samples, ranked, and not draws of the mixture."""
    longer: int = 1
    """Times as many iterations."""
    base: BaseName = "main"
    """The base that all arms start from."""
    arms: tuple[str, ...] = tuple(ARMS)
    modalities: tuple[Modality, ...] = ("image", "video")


OWN = Regime(
    "own",
    "preferences among the base's own samples: of 4 for a caption the best wins and the worst loses",
    own=True,
    arms=("base", *TIERS["A"], *TIERS["B"]),
)
CORE = ("continued", "sft", "sft_matched", "seppo")
MAIN = Regime("mixture", "as many winners as fit the captions evenly, the better of two draws of the mixture")
REGIMES = {
    "own": OWN,
    "mixture": MAIN,
    "few": Regime("few", "64 winners in place of all", winners="few", arms=CORE),
    "weak": Regime("weak", "weak winners: the middle one of three draws of the mixture", winners="weak", arms=CORE),
    "long": Regime("long", "three times as many iterations", longer=3, arms=CORE),
    "strong": Regime(
        "strong",
        "a strong base: tuned on the winners before, until that gave no more",
        base="strong",
        arms=CORE,
        modalities=("image",),
    ),
    "strong_weak": Regime(
        "strong_weak",
        "the strong base and weak winners, which score below its own samples",
        winners="weak",
        base="strong",
        arms=CORE,
        modalities=("image",),
    ),
}


@dataclass(frozen=True)
class Cell:
    """One run of one arm, trained and judged; what it gives depends on nothing else."""

    regime: str
    arm: str
    rate: float | None
    seed: int
    role: Literal["tune", "final"]
    modality: Modality
    config: str | None
    """Relative to the checkout; None is the base."""
    data: str
    """Kind of data, a key of `data.SOURCES`."""
    options: tuple[str, ...]
    """Options of `train`, beside the paths."""
    passes: int
    """Forward passes of one sample that training costs."""
    noises: int
    prompts: int | None
    anchor: tuple[int, int] | None
    """Items and draws of the anchor's validity, if the arm has an anchor."""
    mark: str
    """Hash of what else decides the outcome: the config's content, the data's settings, the base's weights."""
    base: BaseName = "main"
    beta: float | None = None
    """Set where it is tuned; None is what the config says."""
    weight: float | None = None
    """The same of the winner term's weight."""

    @property
    def setting(self) -> Setting:
        return self.rate, self.beta, self.weight

    @property
    def key(self) -> str:
        content = {**asdict(self), "revision": REVISION, "options": _first_names(self.options)}
        if self.base == "main":
            del content["base"]  # came later than cells that are stored
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        if self.arm == "base":
            return f"{'' if self.base == 'main' else f'{self.base}-'}base-{self.key}"
        return f"{self.regime}-{self.arm}-{'-'.join(self._settings('{}{:g}'))}-seed{self.seed}-{self.key}"

    def _settings(self, form: str) -> list[str]:
        named = (("lr", self.rate), ("beta", self.beta), ("weight", self.weight))
        return [form.format(name, value) for name, value in named if value is not None]

    @property
    def label(self) -> str:
        arm = ARMS[self.arm].name + ("" if self.regime == "own" else f" ({self.regime})")
        if self.config is None:
            return arm
        run = "tuning" if self.role == "tune" else f"seed {self.seed}"
        return ", ".join([arm, *self._settings("{} {:g}"), run])

    @property
    def cost(self) -> float:
        """Expected seconds of one core, for the time left. A pass costs about 1.1 ms on images."""
        prompts = 24 if self.role == "tune" else 48 if self.prompts is None else self.prompts
        judged = prompts * (self.noises + (2 if self.role == "final" else 0)) * 12
        looked = 0 if self.anchor is None else self.anchor[0] * (16 + 4 * self.anchor[1])
        return 2 + (self.passes + judged + looked) * (0.0011 if self.modality == "image" else 0.014)


class Plan:
    """The cells of a table under `out`."""

    def __init__(
        self, modality: Modality, scale: Scale, *, seeds: int = 5, regimes: tuple[str, ...] = ("own",),
        regime_seeds: int = 3, only: tuple[str, ...] = (), data_seed: int = 0,
    ):  # fmt: skip
        self.modality, self.scale, self.seeds = modality, scale, seeds
        self.regimes = tuple(regime for regime in regimes if modality in REGIMES[regime].modalities)
        self.regime_seeds, self.only, self.data_seed = regime_seeds, only, data_seed

    def arms(self, regime: str) -> list[str]:
        """The trained arms of a regime, whatever `only` says: what is there already is shown too."""
        there = available(self.modality)
        return [arm for arm in REGIMES[regime].arms if arm in there and arm != "base"]

    def chosen(self, regime: str) -> list[str]:
        """Those to run now."""
        return [arm for arm in self.arms(regime) if not self.only or arm in self.only]

    def seeds_of(self, regime: str, arm: str | None = None) -> range:
        """Training seeds of the table; the one that settings are chosen with is not among them."""
        second = regime != self.regimes[0] or (regime == "own" and arm in TIERS["B"])
        count = min(self.seeds, self.regime_seeds) if second else self.seeds
        return range(TUNING_SEED + 1, TUNING_SEED + 1 + count)

    def bases(self) -> list[Cell]:
        """The bases that the regimes start from, each once."""
        return [self.base(name) for name in dict.fromkeys(REGIMES[regime].base for regime in self.regimes)]

    def base(self, name: BaseName = "main") -> Cell:
        """A base, judged once for all regimes that start from it."""
        mark = base_mark(self.modality) if name == "main" else self._mark(ARMS["sft"], REGIMES["strong"])
        return Cell(
            name, "base", None, 0, "final", self.modality, None, "winners", (), 0, self.scale.noises,
            self.scale.prompts, None, mark, name,
        )  # fmt: skip

    def start(self, arm: str) -> tuple[float | None, float | None]:
        """The beta and the winner term's weight that an arm's search begins at; None for what it has none of."""
        has_beta = "beta" in _written(self.modality, ARMS[arm])["method"] and arm != "dspo"
        return self.scale.beta if has_beta else None, self.scale.weight if ARMS[arm].weighted else None

    def tuning(self, regime: str, arm: str) -> list[Cell]:
        """One cell per learning rate of the grid, judged on the validation prompts."""
        return [self.cell(regime, arm, (rate, *self.start(arm)), TUNING_SEED, "tune") for rate in self.scale.rates]

    def final(self, regime: str, arm: str, setting: Setting) -> list[Cell]:
        """One cell per training seed, judged on the test prompts."""
        return [self.cell(regime, arm, setting, seed, "final") for seed in self.seeds_of(regime, arm)]

    def cell(self, regime: str, arm: str, setting: Setting, seed: int, role: Literal["tune", "final"]) -> Cell:
        about, conditions = ARMS[arm], REGIMES[regime]
        rate, beta, weight = setting
        config = arm_config(self.modality, about)
        final = role == "final"
        iterations, updates, batch = self.lengths(regime, arm, final)
        data = conditions.winners if about.data == "winners" else about.data
        if conditions.own and data in OWN_DATA:
            data = OWN_DATA[data]
        options = (
            "--seed", str(seed), "--optimizer.lr", f"{rate:g}",
            "--loop.iterations", str(iterations), "--loop.updates_per_iteration", str(updates),
            "--loop.batch_size", str(batch), "--loop.micro_batch_size", str(batch),
            "--loop.checkpoint_every", str(updates if final else iterations * updates),
            "--loop.keep_checkpoints", "1000",
            *(() if beta is None else ("--method.beta", f"{beta:g}")),
            *(() if weight is None else ("--method.sft_weight", f"{weight:g}")),
            *(() if self.scale.schedule is None else ("--optimizer.schedule", self.scale.schedule)),
            *(() if self.scale.warmup is None else ("--optimizer.warmup_updates", str(self.scale.warmup))),
            # what the run looks out for is not part of the comparison; a loss that is not finite still ends it
            "--health.winner_error", "off", "--health.margin", "off", "--health.constant_sign", "off",
            "--health.sample_collapse", "off",
        )  # fmt: skip
        anchored = config.method.signs(batch) > 0
        anchor = (self.scale.anchor_items, self.scale.anchor_draws) if final and anchored else None
        passes = iterations * updates * batch * passes_per_item(config.method, config.reference_samples)
        return Cell(
            regime, arm, rate, seed, role, self.modality, str(config_path(self.modality, about)), data, options, passes,
            self.scale.noises if final else self.scale.tuning_noises, self.scale.prompts, anchor,
            self._mark(about, conditions), conditions.base, beta, weight,
        )  # fmt: skip

    def lengths(self, regime: str, arm: str, final: bool = True) -> tuple[int, int, int]:
        """Iterations, updates of each, and batch size of an arm; one that is matched makes more updates."""
        about, scale = ARMS[arm], self.scale
        config = arm_config(self.modality, about)
        iterations = (scale.iterations or config.loop.iterations) * REGIMES[regime].longer
        if not final and scale.tuning_iterations is not None:
            iterations = scale.tuning_iterations
        updates, batch = scale.updates or config.loop.updates_per_iteration, scale.batch_size or config.loop.batch_size
        if about.matched is not None:
            target = arm_config(self.modality, ARMS[about.matched])
            more = passes_per_item(target.method, target.reference_samples)
            updates = round(updates * more / passes_per_item(config.method, config.reference_samples))
        return iterations, updates, batch

    def _mark(self, arm: Arm, conditions: Regime) -> str:
        content = _written(self.modality, arm)
        settings = [content, self.scale.size, self.data_seed, base_mark(self.modality)]
        if conditions.own:
            settings += [self.scale.samples, self.scale.rounds]
        if conditions.base == "strong":
            settings += [_first_names(STRONG), _written(self.modality, ARMS["sft"])]
        return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


NO_MATTER = ("source", "cache", "prefetch")
"""Keys of `data` that change no outcome."""


def _written(modality: Modality, arm: Arm) -> dict:
    """An arm's YAML without paths and without defaults, so that a new key of the schema leaves cells valid."""
    content = yaml.safe_load((ROOT / config_path(modality, arm)).read_text(encoding="utf-8"))
    del content["run"]
    content["data"] = {key: value for key, value in content["data"].items() if key not in NO_MATTER}
    for new, old in FIRST.items():
        section, _, key = new.partition(".")
        if key in content.get(section, {}):
            content[section][old.partition(".")[2]] = content[section].pop(key)
    return content


def _first_names(options: tuple[str, ...]) -> tuple[str, ...]:
    """`options` as they were first called: stored cells stay valid when a key gets another name."""
    first = {f"--{new}": f"--{old}" for new, old in FIRST.items()}
    return tuple(first.get(word, word) for word in options)


def config_path(modality: Modality, arm: Arm) -> Path:
    return CONFIGS / f"{modality}_{arm.config}.yaml"


@cache
def arm_config(modality: Modality, arm: Arm) -> Config:
    """The config behind a trained arm. FileNotFoundError if the modality has none."""
    return load_config(ROOT / config_path(modality, arm), SCHEMAS[modality])


@cache
def base_mark(modality: Modality) -> str:
    """Hash of the weights that all arms start from, and of the sampler that they are judged by."""
    written = _written(modality, ARMS["sft"])
    digest = sha256(json.dumps([written["preview"], written["model"]], sort_keys=True).encode())
    for key in ("base", "motion_adapter"):
        for path in sorted((ROOT / written["model"][key]).rglob("*.safetensors")) if key in written["model"] else []:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def available(modality: Modality) -> dict[str, Arm]:
    """The arms that this modality has configs for."""
    return {
        name: arm for name, arm in ARMS.items() if arm.config is None or (ROOT / config_path(modality, arm)).is_file()
    }
