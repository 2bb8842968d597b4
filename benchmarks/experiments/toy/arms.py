"""The compared arms: every method as a config in configs/toy, and its cost in passes through the denoiser."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seppo_core.config.method import CounterpartConfig, MethodConfig, ReferenceSamplesConfig
from seppo_core.config.schema import Config
from seppo_core.toy.captions import Modality
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig

ROOT = Path(__file__).resolve().parents[3]
SCHEMAS: dict[Modality, type[Config]] = {"image": ImageConfig, "video": VideoConfig}
PROGRAMS: dict[Modality, str] = {"image": "seppo_image", "video": "seppo_video"}

Data = Literal["winners", "pairs", "either", "labels", "continued", "prompts"]
Group = Literal["controls", "SePPO and its ablations", "further options", "rivals"]
BACKWARD = 2
"""Cost of a backward pass, in forward passes."""


@dataclass(frozen=True)
class Arm:
    """A row of the table. `config` is the YAML behind it, `configs/toy/<modality>_<config>.yaml`; None is the base."""

    name: str
    config: str | None
    data: Data
    group: Group
    matched: str | None = None
    """The arm whose passes it is given: it makes so many more updates."""
    weighted: bool = False
    """Whether the weight of its winner term is tuned too."""
    drawn: bool = False
    """Whether it needs pairs that the base has drawn itself."""
    betas: tuple[float, ...] | None = None
    """Values of beta that are tried where it is of another scale than the others', the first one in the middle."""


ARMS = {
    "base": Arm("base", None, "winners", "controls"),
    "continued": Arm("continued", "continued", "continued", "controls"),
    "sft": Arm("SFT", "sft", "winners", "controls"),
    "sft_matched": Arm("SFT, compute-matched", "sft", "winners", "controls", matched="seppo"),
    "indicator_initial": Arm(
        "SePPO, indicator, initial reference", "seppo_indicator_initial", "winners", "SePPO and its ablations"
    ),
    "seppo": Arm("SePPO", "seppo", "winners", "SePPO and its ablations"),
    "seppo_indicator": Arm("SePPO, indicator", "seppo_indicator", "winners", "SePPO and its ablations"),
    "anchor_off": Arm("SePPO, anchor off", "anchor_off", "winners", "SePPO and its ablations"),
    "seppo_initial": Arm("SePPO, initial reference", "seppo_initial", "winners", "SePPO and its ablations"),
    "seppo_latest": Arm("SePPO, latest reference", "seppo_latest", "winners", "SePPO and its ablations"),
    "seppo_either": Arm("SePPO, either of a pair", "seppo_either", "either", "SePPO and its ablations"),
    "sspo": Arm("SSPO", "sspo", "winners", "SePPO and its ablations"),
    "sspo_initial": Arm("SSPO, initial reference", "sspo_initial", "winners", "SePPO and its ablations"),
    "gt_pair": Arm("GT-Pair", "gt_pair", "winners", "rivals", weighted=True),
    "dpo_sft": Arm("DPO, pairs + winner term", "dpo_sft", "pairs", "rivals", weighted=True),
    "spin": Arm("SPIN", "spin", "winners", "rivals"),
    "ditto": Arm("DITTO: the base's samples lose, no anchor", "ditto", "winners", "rivals"),
    "dro": Arm("Diffusion-DRO", "dro", "winners", "rivals"),
    "dpo": Arm("DPO, pairs", "dpo", "pairs", "rivals"),
    "dpo_guard": Arm("DPO, guarded", "dpo_guard", "pairs", "rivals"),
    "dpo_guard_batch": Arm("DPO, guarded per batch (Diffusion-SDPO)", "dpo_guard_batch", "pairs", "rivals"),
    "poly_dpo": Arm("Poly-DPO, pairs", "poly_dpo", "pairs", "rivals"),
    "dspo": Arm("DSPO, pairs", "dspo", "pairs", "rivals", betas=(5e-5, 5e-4, 5e-3, 5e-2, 0.5)),
    "mapo": Arm("MaPO, pairs", "mapo", "pairs", "rivals"),
    "kto": Arm("KTO, labels", "kto", "labels", "rivals"),
    "online_dpo": Arm("DPO, online: best and worst of 4", "online_dpo", "prompts", "rivals"),
    "nft": Arm("DiffusionNFT, online", "nft", "prompts", "rivals"),
    "online_seppo": Arm(
        "SePPO, indicator, initial reference, online: best of 4", "online_seppo", "prompts", "further options"
    ),
    "seppo_tracked": Arm(
        "SePPO, indicator, initial reference, tracked noise", "seppo_tracked", "winners", "further options"
    ),
    "dpo_tracked": Arm("DPO, pairs, tracked noise", "dpo_tracked", "pairs", "further options", drawn=True),
    "seppo_draws": Arm("SePPO, sign of 4 draws", "seppo_draws", "winners", "further options"),
    "seppo_batch": Arm("SePPO, sign per batch", "seppo_batch", "winners", "further options"),
    "seppo_sft": Arm("SePPO + SFT", "seppo_sft", "winners", "further options"),
}
"""All arms, in the table's order."""

TIERS: dict[str, tuple[str, ...]] = {
    "A": (
        "continued", "sft", "sft_matched", "indicator_initial", "ditto", "dpo_sft", "gt_pair", "seppo",
        "seppo_indicator", "sspo_initial",
    ),
    "B": (
        "seppo_initial", "seppo_latest", "sspo", "spin", "dro", "dpo", "dpo_guard", "dpo_guard_batch", "poly_dpo",
        "dspo", "mapo", "kto",
        "seppo_sft", "anchor_off", "online_dpo", "online_seppo", "nft",
        "seppo_tracked", "dpo_tracked",
    ),
    "C": ("sft", "sft_matched", "indicator_initial", "ditto", "dpo_sft"),
    "D": ("sft_matched", "indicator_initial", "dpo_sft"),
}  # fmt: skip
"""Arms of the `own` regime: those that decide (A), then the others (B), and those that decide on clips (C); D are
those of the `large` regime, which asks whether it holds for a larger base."""
REGIME_ARMS = ("continued", "sft", "sft_matched", "seppo", "indicator_initial", "dpo_sft")
"""Arms that are tried on other data than the base's own samples, in the order of their table's columns."""
MODALITIES: dict[str, Modality] = {"A": "image", "B": "image", "C": "video", "D": "image"}
"""What each tier is about."""


def judged_per_item(config: Config) -> int:
    """Samples that loop.judge scores for one item of a batch; 0 without one."""
    if config.loop.judge is None:
        return 0
    return config.loop.judge_samples if config.method.spec.pairs_candidates else 1


def passes_per_item(method: MethodConfig, samples: ReferenceSamplesConfig, judged: int = 0) -> int:
    """Forward passes of one sample through the denoiser that training on one item of a batch costs.

    Counted: generating the second sample, and the `judged` ones that a judge chooses among, all passes of reference and
    policy, and the backward pass as two. Not counted: the VAE, the judge, the optimiser and the text encoder, which
    `prepare` has done with.
    """
    spec = method.spec
    halves = 2 if spec.contrastive else 1
    passes = halves * (1 + BACKWARD)
    if spec.uses_reference:
        passes += halves
    generated = (spec.counterpart == "generated") + judged
    guided = samples.guided_share(samples.steps) if samples.guidance_scale > 1 else 0
    passes += generated * round(samples.steps * (1 + guided))
    if method.anchor_draws:
        passes += 2 * method.anchor_draws
    elif method.signs(2) == 1 or method.name == "kto":
        # both models once more on the winners, to know the whole batch's mean first
        passes += 2
    elif isinstance(method, CounterpartConfig) and method.guards_batch:
        # the policy once more on both halves, to know the batch's scale first
        passes += 2
    return passes
