"""Under which conditions the arms are compared, how long each trains, and what is tuned."""

from dataclasses import dataclass
from typing import Literal

from benchmarks.experiments.toy.arms import ARMS, TIERS
from seppo_core.toy.captions import Modality

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
    ema: float | None = None
    """Decay of the running average of the weights, which is what is then judged; None judges the last weights."""
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


EMA = 0.98
"""Of the `own` scale. Its rates stay level, so that a run can be read at any of its updates; the weights then wander
around where they would rest, those of a contrastive loss farther than SFT's (LOG.md): an average takes that out."""

SCALES: dict[Modality, dict[str, Scale]] = {
    "image": {
        "own": Scale(
            iterations=4,
            updates=60,
            batch_size=16,
            warmup=20,
            rates=(3e-4, 1e-3),
            beta=10.0,
            weight=10.0,
            schedule="constant",
            ema=EMA,
            tuning_iterations=3,
        ),
        "quick": Scale(),
        "full": Scale(iterations=None, updates=None, batch_size=None, warmup=None),
    },
    "video": {
        "own": Scale(
            252,
            3,
            40,
            8,
            10,
            rates=(3e-4, 1e-3),
            beta=10.0,
            weight=10.0,
            schedule="constant",
            ema=EMA,
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
BaseName = Literal["main", "strong", "large"]
"""The base that ships, that one tuned on the winners first, or one of about twice the weights."""
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
LARGE = Regime(
    "large",
    "the same with a base of about twice the weights, ranking its own samples",
    own=True,
    base="large",
    arms=("base", *TIERS["D"]),
    modalities=("image",),
)
CORE = ("continued", "sft", "sft_matched", "seppo", "indicator_initial")
MAIN = Regime(
    "mixture",
    "as many winners as fit the captions evenly, the better of two draws of the mixture",
    arms=tuple(name for name, arm in ARMS.items() if not arm.drawn),
)
REGIMES = {
    "own": OWN,
    "large": LARGE,
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
