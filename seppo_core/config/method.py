"""The section `method`, and how the reference draws its samples.

`MethodConfig` and the classes below it hold what methods share; the methods themselves are in
`seppo_core.config.methods`, one file each.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

from seppo_core.config.method_specs import MethodSpec, Strategy
from seppo_core.config.validators import above, at_least
from seppo_core.config.variants import Variants

SchedulerName = Literal["default", "ddim", "pndm", "euler", "euler_ancestral", "dpm++", "unipc", "ddpm"]
Noise = Literal["independent", "shared", "tracked"]
NOISY_SCHEDULERS = ("euler_ancestral", "ddpm")
"""Those that draw noise between their steps, so that no one noise gives the sample."""
AnchorScope = Literal["sample", "batch"]
GuardScope = Literal["sample", "batch"]


@dataclass(frozen=True, kw_only=True)
class MethodConfig(Variants):
    """The training objective. Which keys it has depends on its name."""

    chosen_by: ClassVar[str] = "name"
    package: ClassVar[str] = "seppo_core.config.methods"
    spec: ClassVar[MethodSpec]

    name: str = "seppo"
    """Training method."""
    min_snr_gamma: float | None = None
    """Weight errors by min(SNR, gamma) / SNR, e.g. with 5; null gives all timesteps the same weight. For diffusion
    models only."""
    timestep_density: Literal["uniform", "logit_normal"] = "uniform"
    """Distribution of the training timesteps; logit_normal is for flow-matching models only."""
    timestep_shift: float = 1.0
    """Shifts the training timesteps of a flow-matching model towards noise; 1 leaves them as they are."""

    def __post_init__(self):
        above("method", self, 0, "min_snr_gamma", "timestep_shift")

    @property
    def strategy(self) -> Strategy | None:
        """Which snapshot is an iteration's reference; None if the method needs none."""
        return self.spec.reference

    @property
    def sampled_from(self) -> Strategy | None:
        """Which snapshot generates an iteration's samples; nearly always the reference of the loss."""
        return self.strategy

    @property
    def noise(self) -> Noise:
        """Whether winner and counterpart get two noises, one, or those that they were drawn from."""
        return "independent"

    @property
    def needs_prediction(self) -> bool:
        """Whether the loss needs what the reference predicts, and not its errors alone."""
        return False

    @property
    def pool_window(self) -> int | None:
        """Number of newest snapshots that the reference is drawn from; None for all."""
        return None

    @property
    def anchor_draws(self) -> int:
        """Further draws of timestep and noise that decide the anchor's signs."""
        return 0

    def snapshot_decay(self, iteration: int) -> float:
        """Weight of the snapshot before in that of `iteration`, the rest being the policy's; 0 keeps the policy."""
        return 0.0

    def signs(self, batch_size: int) -> int:
        """How many signs an anchor decides in an update of `batch_size` pairs."""
        return 0

    def advice(self) -> str | None:
        """What a run of this method should be warned of before it starts."""
        return None

    def warn(self) -> None:
        """Warns of what `advice` says."""
        if (advice := self.advice()) is not None:
            warnings.warn(advice, stacklevel=2)


@dataclass(frozen=True, kw_only=True)
class CounterpartConfig(MethodConfig):
    """Options of the methods that set a winner against a counterpart."""

    noise: Noise = "independent"
    """Whether a winner and its counterpart get two noises (the paper), the same one (Diffusion-DPO's code), or each the
    one that it was drawn from (tracked, as PNAPO); a winner that comes from elsewhere then gets that of the own
    sample."""
    guard: float | None = None
    """Winner-preserving guard of Diffusion-SDPO: share of the winner's own descent to keep, 0 to 1; null turns it off.
    It compares directions of errors, which independent noises make all but orthogonal: use it with noise=shared."""
    guard_scope: GuardScope = "sample"
    """Whether each pair gets its own scale, or the whole batch gets one, which Diffusion-SDPO's released code takes of
    each process's part of it; here it costs one more forward pass of the policy."""

    def __post_init__(self):
        super().__post_init__()
        at_least("method", self, 0, "guard")
        if self.guard is not None and not self.guard < 1:
            raise ValueError(f"method.guard={self.guard} must lie in [0, 1); at 1 the counterpart would never count")
        if self.guard_scope == "batch" and self.guard is None:
            raise ValueError("method.guard_scope=batch has no meaning without method.guard; set it, e.g. to 0.5")

    @property
    def guards_batch(self) -> bool:
        """Whether one scale of the guard holds for the whole batch."""
        return self.guard is not None and self.guard_scope == "batch"

    def advice(self) -> str | None:
        if self.guard is None or self.noise == "shared":
            return None
        return (
            f"method.guard={self.guard} does hardly anything with method.noise={self.noise} (its mean scale is 0.97 on "
            "the toy task, and 0.84 with one noise); set method.noise=shared"
        )


@dataclass(frozen=True, kw_only=True)
class ReferenceLossConfig(CounterpartConfig):
    """Options of the methods that measure winner and counterpart against a reference."""

    sft_weight: float = 0.0
    """Weight of the winners' plain error, which is added to the loss."""

    def __post_init__(self):
        super().__post_init__()
        at_least("method", self, 0, "sft_weight")


@dataclass(frozen=True, kw_only=True)
class LogisticConfig(ReferenceLossConfig):
    """Options of the methods with DPO's loss, the logistic function of a margin."""

    beta: float = 2000.0
    """Strength of the preference term, which multiplies differences of mean errors. The value 5000 of Diffusion-DPO's
    code corresponds to 2500 here."""

    def __post_init__(self):
        super().__post_init__()
        above("method", self, 0, "beta")


@dataclass(frozen=True, kw_only=True)
class AnchoredConfig(LogisticConfig):
    """Options of the semi-policy methods: a pool of snapshots, and an anchor that decides the sign of each sample."""

    reference: Strategy = "random"
    """Snapshot that is an iteration's reference: a uniform draw from all so far (random), the newest (latest), or
    always the base (initial)."""
    pool_window: int | None = None
    """Keep only this many newest snapshots and draw the reference from them. This deviates from the paper; null keeps
    all."""
    anchor_draws: int = 0
    """Number of further draws of timestep and noise whose mean decides each sign; 0 decides by the draw that the loss
    uses."""
    anchor_scope: AnchorScope = "sample"
    """Whether each sample gets its own sign, or the whole batch gets one."""

    def __post_init__(self):
        super().__post_init__()
        at_least("method", self, 0, "anchor_draws")
        at_least("method", self, 1, "pool_window")
        if self.pool_window is not None and self.reference != "random":
            raise ValueError(
                f"method.pool_window={self.pool_window} has no meaning for method.reference={self.reference}; leave it "
                "out, or draw a random reference"
            )
        if self.guards_batch and self.signs(1):
            raise ValueError(
                "method.guard_scope=batch needs one sign for all pairs, which an anchor does not give; use "
                "guard_scope=sample" + (", or flipper=off" if "flipper" in vars(self) else "")
            )

    @property
    def strategy(self) -> Strategy:
        return self.reference

    def signs(self, batch_size: int) -> int:
        return 1 if self.anchor_scope == "batch" else batch_size


def check_not_flow(method: MethodConfig, family: str) -> None:
    """Raises ValueError if `method` sets options of flow-matching models; `family` is a diffusion model."""
    if method.timestep_density != "uniform" or method.timestep_shift != 1:
        raise ValueError(
            f"method.timestep_density={method.timestep_density} with method.timestep_shift={method.timestep_shift} is "
            f"for flow-matching models; {family} needs uniform and 1"
        )


def check_flow(method: MethodConfig, family: str) -> None:
    """Raises ValueError if `method` sets options of diffusion models; `family` is a flow-matching model."""
    if method.min_snr_gamma is not None:
        raise ValueError(
            f"method.min_snr_gamma={method.min_snr_gamma} is for diffusion models; {family}, a flow-matching model, "
            "needs null"
        )


@dataclass(frozen=True, kw_only=True)
class ReferenceSamplesConfig:
    """How the reference draws its samples at the start of every iteration, for the methods that learn from them."""

    scheduler: SchedulerName = "default"
    """Solver; default is the model's own."""
    steps: int = 50
    """Number of denoising steps."""
    guidance_scale: float = 7.5
    """Scale of classifier-free guidance; 1 turns it off."""
    guidance_interval: tuple[float, float] | None = None
    """Steps that are guided, from one share of them to another, e.g. [0.2, 0.7]; each of the others takes one forward
    pass in place of two. Null guides all."""
    batch_size: int = 8
    """Number of samples that a process draws at once. It changes speed and memory, not the samples."""
    uses: int = 1
    """Number of pairs of an iteration that each sample is used in, always with its winner and each time at a new
    timestep and new noises. More than 1 draws so many times fewer samples, of whatever reference; the iteration goes
    through its winners as often, each time in a new order."""
    repeat_after: int | None = None
    """Number of epochs after which the samples of every item come again, if it is always the base that draws them;
    timesteps and noises stay new. They are kept on disk. Null draws new ones in every epoch."""
    reencode: bool = False
    """Decode the samples and encode them again, as earlier methods did, so that winners and samples carry the same
    traces of the VAE."""

    def __post_init__(self):
        at_least("reference_samples", self, 1, "steps", "batch_size", "uses", "repeat_after")
        at_least("reference_samples", self, 0, "guidance_scale")
        interval, name = self.guidance_interval, f"reference_samples.guidance_interval={self.guidance_interval}"
        if interval is not None and not 0 <= interval[0] < interval[1] <= 1:
            raise ValueError(f"{name} must be two rising shares of the steps within 0 and 1; use e.g. [0.2, 0.7]")
        if interval is not None and not self.guided_share(self.steps):
            raise ValueError(
                f"{name} holds none of the {self.steps} steps (reference_samples.steps), so that none is guided; widen "
                "it, or set guidance_scale=1"
            )
        if interval is not None and self.guidance_scale <= 1:
            raise ValueError(
                f"{name} has no meaning with reference_samples.guidance_scale={self.guidance_scale}, which does not "
                "guide; leave it out, or raise the scale"
            )

    def guided_share(self, steps: int) -> float:
        """Share of so many steps of the solver that are guided, for models with classifier-free guidance."""
        return sum(guides(self.guidance_interval, number, steps) for number in range(1, steps + 1)) / steps


def guides(interval: tuple[float, float] | None, number: int, steps: int) -> bool:
    """Whether step `number` of `steps`, from 1, is within an interval of shares of them; None is all of them."""
    return interval is None or interval[0] * steps < number <= interval[1] * steps
