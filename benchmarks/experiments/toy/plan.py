"""The cells of the comparison, in the order in which half a table is worth most."""

import json
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

import yaml

from benchmarks.experiments.toy.arms import ARMS, ROOT, SCHEMAS, TIERS, Arm, judged_per_item, passes_per_item
from benchmarks.experiments.toy.regimes import OWN_DATA, REGIMES, STRONG, BaseName, Regime, Scale, Setting
from benchmarks.experiments.toy.task.base_settings import LARGE
from seppo_core.config.aliases import FIRST
from seppo_core.config.loader import load_config
from seppo_core.config.schema import Config
from seppo_core.toy.captions import Modality

REVISION = 2
"""Raised when a change anywhere makes stored cells another experiment: they are then left aside and done anew."""
CONFIGS = Path("configs/toy")
TUNING_SEED = 0


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
    def anchor_data(self) -> str:
        """Kind of data on whose winners the anchor is looked at."""
        return "own_winners" if self.data == "prompts" else self.data

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
        second = regime not in ("own", self.regimes[0]) or regime == "large" or arm in TIERS["B"]
        count = min(self.seeds, self.regime_seeds) if second else self.seeds
        return range(TUNING_SEED + 1, TUNING_SEED + 1 + count)

    def bases(self) -> list[Cell]:
        """The bases that the regimes start from, each once."""
        return [self.base(name) for name in dict.fromkeys(REGIMES[regime].base for regime in self.regimes)]

    def base(self, name: BaseName = "main") -> Cell:
        """A base, judged once for all regimes that start from it."""
        mark = base_mark(self.modality) if name == "main" else self._mark(ARMS["sft"], REGIMES[name])
        return Cell(
            name, "base", None, 0, "final", self.modality, None, "winners", (), 0, self.scale.noises,
            self.scale.prompts, None, mark, name,
        )  # fmt: skip

    def start(self, arm: str) -> tuple[float | None, float | None]:
        """The beta and the winner term's weight that an arm's search begins at; None for what it has none of."""
        about = ARMS[arm]
        beta = None
        if self.scale.beta is not None and "beta" in _written(self.modality, about)["method"]:
            beta = self.scale.beta if about.betas is None else about.betas[len(about.betas) // 2]
        return beta, self.scale.weight if about.weighted else None

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
            *(() if self.scale.ema is None else ("--optimizer.ema_decay", f"{self.scale.ema:g}")),
            *(() if self.scale.warmup is None else ("--optimizer.warmup_updates", str(self.scale.warmup))),
            # what the run looks out for is not part of the comparison; a loss that is not finite still ends it
            "--health.winner_error", "off", "--health.margin", "off", "--health.constant_sign", "off",
            "--health.sample_collapse", "off",
        )  # fmt: skip
        anchored = config.method.signs(batch) > 0
        anchor = (self.scale.anchor_items, self.scale.anchor_draws) if final and anchored else None
        per_item = passes_per_item(config.method, config.reference_samples, judged_per_item(config))
        passes = iterations * updates * batch * per_item
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
        if conditions.base == "large":
            settings.append(asdict(LARGE))
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
