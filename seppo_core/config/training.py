"""The sections `loop`, `optimizer` and `preview`. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from seppo_core.config.method import SchedulerName
from seppo_core.config.method_specs import MethodSpec
from seppo_core.config.validators import above, at_least

Backend = Literal["inductor", "aot_eager", "eager"]


def _check_judge(section: str, config: object, judge: str | None, depending: tuple[str, ...]) -> None:
    """ValueError if `judge` is empty, or None while the section has values for keys that depend on it."""
    if judge is None:
        for name in depending:
            if value := vars(config)[name]:
                raise ValueError(f"{section}.{name}={value} needs {section}.judge; name a judge, or leave it out")
    elif not judge.strip():
        raise ValueError(f"{section}.judge is empty; name a scorer, module:function or NAME=COMMAND, or null")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Training loop (Algorithm 1): each iteration draws a reference, lets it sample, updates, and takes a snapshot."""

    iterations: int = 7
    """Number of iterations; each draws a reference."""
    updates_per_iteration: int = 30
    """Number of optimiser updates in each iteration; every pair is used once, or as
    often as reference_samples.uses says."""
    batch_size: int = 2048
    """Number of pairs in an update, over all processes and accumulation steps."""
    micro_batch_size: int = 1
    """Number of pairs in one forward pass of a process; gradients are accumulated over the rest of batch_size."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Precision of autocast, for policy and reference alike."""
    sharded: bool = False
    """Shard weights, gradients, moments and reference over the processes (FSDP2) instead of a copy on each."""
    context_parallel: int = 1
    """Number of processes in a row over which the tokens of every item are split, so that each holds that part of the
    activations: for long clips. They count as one process for batch_size. For flux, qwen-image, ltx and wan."""
    offload_reference: bool = False
    """Keep a reference of full weights in CPU memory while it is not used: less GPU memory, more time."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    checkpointing_share: float = 1.0
    """Share of the parts that gradient_checkpointing recomputes, evenly spread over the model: 0.5 keeps activations of
    every second part, for half of the time that recomputing all of them takes."""
    offload_activations: bool = False
    """Keep what recomputation starts from, the inputs of all blocks, in CPU memory until the backward pass: less GPU
    memory for long sequences, more time. Needs gradient_checkpointing."""
    reference_draws: int | None = None
    """Number of epochs after which the draws of every item (timestep, noises, mirroring, dropped caption, own sample)
    come again in turn, for a reference that never moves: its errors and its samples are kept on disk, and later epochs
    do without its passes. A policy that meets few draws often learns them by heart. Null draws anew in every epoch."""
    deterministic: bool = False
    """On a GPU, use only kernels that give the same bits every time, so that a resumed run equals an undisturbed one
    bit for bit there too: slower. A CPU's do so anyway."""
    attention: Literal["sdpa", "xformers"] = "sdpa"
    """Attention kernels; xformers works with UNets only, and needs CUDA and the extra `gpu`."""
    compile: Backend | None = None
    """Backend of torch.compile for the repeated blocks of policy and reference. inductor makes kernels of its own: it
    needs a C compiler and minutes at the start, and rounds otherwise; aot_eager and eager only trace, to look for
    faults. Null compiles nothing."""
    validate_every: int = 10
    """Number of updates between measurements of the held-out items (data.validation); the last update has one too."""
    validate_items: int = 128
    """Largest number of held-out items that are measured, each in one forward pass (two for a pair). Methods without a
    reference measure so many items before the first update, whatever is held out."""
    checkpoint_every: int = 30
    """Number of updates between checkpoints; the last update always makes one."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep. All snapshots of the reference pool are kept, apart from these."""
    keep_every: int | None = None
    """Write and keep a checkpoint at every multiple of this number of updates too, e.g. 100, beside the newest; null
    keeps the newest alone."""
    keep_best: bool = False
    """Write and keep the checkpoint whose preview has the highest mean score (preview.judge), the earlier one of
    equals, beside the newest; `--checkpoint best` takes it. The highest of many scores is higher than it would be on
    other seeds."""
    judge: str | None = None
    """What scores samples of the policy at the start of every iteration, for data.supervision=prompts: a scorer such as
    hps_v2.1, module:function of pixels and prompts, or NAME=COMMAND of a judge that is a process. Its best sample of a
    caption is the winner, and its worst the loser."""
    judge_samples: int = 4
    """Number of samples of each caption that loop.judge chooses among."""
    judge_column: str | None = None
    """Column that counts, for a process with several."""
    judge_places: tuple[str, ...] = ()
    """Where a scorer's files are, as METRIC.PART=PLACE, e.g. pickscore.weights=/data/PickScore_v1."""

    def candidates(self, method: MethodSpec) -> int:
        """Number of samples of an iteration that the judge scores; 0 without one."""
        each = self.judge_samples if method.pairs_candidates else 1
        return 0 if self.judge is None else self.updates_per_iteration * self.batch_size * each

    def generated(self, method: MethodSpec, uses: int) -> int:
        """Number of samples that an iteration draws: those that are judged, and those of the reference, each of which
        is used in so many pairs."""
        counterparts = self.updates_per_iteration * self.batch_size if method.counterpart == "generated" else 0
        return counterparts // uses + self.candidates(method)

    def drawn(self, items: int | None, epochs: int | None) -> int:
        """Number of training positions whose draws are new, if those of `items` come again after so many epochs; all
        of them where one of both is not known."""
        total = self.iterations * self.updates_per_iteration * self.batch_size
        return total if epochs is None or items is None else min(total, epochs * items)

    def __post_init__(self):
        _check_judge("loop", self, self.judge, ("judge_column", "judge_places"))
        if self.judge_samples < 2:
            raise ValueError(
                f"loop.judge_samples={self.judge_samples} must be at least 2: a preference is among several"
            )
        at_least("loop", self, 1, "iterations", "updates_per_iteration", "batch_size", "micro_batch_size")
        at_least("loop", self, 1, "context_parallel", "checkpoint_every", "keep_checkpoints", "keep_every")
        at_least("loop", self, 1, "validate_every", "validate_items", "reference_draws")
        if self.context_parallel > 1 and self.compile is not None:
            raise ValueError(
                f"loop.compile={self.compile} is not tested with loop.context_parallel={self.context_parallel}, whose "
                "processes exchange tokens within every block; leave one of them out"
            )
        if self.deterministic and self.attention == "xformers":
            raise ValueError(
                "loop.deterministic=true cannot be kept with loop.attention=xformers, whose gradients are added in any "
                "order; use sdpa"
            )
        if self.sharded and self.mixed_precision == "fp16":
            raise ValueError("loop.sharded=true does not go with loop.mixed_precision=fp16; use bf16")
        if self.sharded and self.offload_reference:
            raise ValueError("loop.offload_reference=true cannot be combined with loop.sharded=true; use one of them")
        if self.offload_activations and not self.gradient_checkpointing:
            raise ValueError(
                "loop.offload_activations=true moves the inputs of recomputed blocks, and without "
                "loop.gradient_checkpointing=true it would move every activation; set both, or neither"
            )
        if not 0 < self.checkpointing_share <= 1:
            raise ValueError(
                f"loop.checkpointing_share={self.checkpointing_share} must lie in (0, 1]; use e.g. 0.5, or set "
                "loop.gradient_checkpointing=false"
            )
        if self.checkpointing_share != 1 and (self.offload_activations or not self.gradient_checkpointing):
            moved = "loop.offload_activations=true would move what the other parts keep; leave one of them out"
            raise ValueError(
                f"loop.checkpointing_share={self.checkpointing_share} cannot work here: "
                + (moved if self.offload_activations else "nothing is recomputed; set loop.gradient_checkpointing=true")
            )
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"loop.batch_size={self.batch_size} is not a multiple of "
                f"loop.micro_batch_size={self.micro_batch_size}; "
                f"use e.g. {max(1, self.batch_size // self.micro_batch_size) * self.micro_batch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW, or Adafactor. Moments, schedule and step count continue through all iterations."""

    name: Literal["adamw", "adamw8bit", "adafactor"] = "adamw"
    """Optimiser; adamw8bit keeps its moments in 8 bits and needs bitsandbytes (the extra `gpu`). adafactor keeps a
    second moment of rows and columns alone; betas and eps are not its."""
    fused: bool = False
    """Let adamw step all weights in one kernel: a step two to four times as fast that needs no memory of its own, and
    rounds otherwise. Not for loop.mixed_precision=fp16."""
    lr: float = 1e-5
    """Learning rate as it is applied. Code with `scale_lr` quotes it before the multiplication by the batch size."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moving averages of the gradient and of its square."""
    eps: float = 1e-8
    """Constant that is added to the denominator of the step."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    max_grad_norm: float | None = 1.0
    """Norm that gradients are clipped to; null does not clip."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after warm-up: constant, or decaying to zero at the last update."""
    warmup_updates: int = 0
    """Number of updates over which the learning rate rises linearly from zero."""
    ema_decay: float | None = None
    """Decay of a running average of the weights, e.g. 0.999, for previews, samples and export; null keeps none."""

    def __post_init__(self):
        above("optimizer", self, 0, "lr", "eps", "max_grad_norm")
        at_least("optimizer", self, 0, "weight_decay", "warmup_updates")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"optimizer.ema_decay={self.ema_decay} must lie in (0, 1); use e.g. 0.999, or null")
        if self.name == "adafactor" and (tuple(self.betas), self.eps) != ((0.9, 0.999), 1e-8):
            raise ValueError(
                f"optimizer.betas={list(self.betas)} and optimizer.eps={self.eps} are not adafactor's; leave them "
                "out, or use adamw"
            )
        if self.fused and self.name != "adamw":
            raise ValueError(f"optimizer.fused=true is of adamw, not of optimizer.name={self.name}; leave it out")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas={list(self.betas)} must lie in [0, 1); use e.g. [0.9, 0.999]")


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Sample grids of fixed prompts during training; also the defaults of `sample`."""

    prompts: tuple[str, ...] = ()
    """Prompts; each is one row of the grid."""
    every: int = 0
    """Number of updates between grids; 0 draws the first and the last only."""
    per_prompt: int = 4
    """Number of samples per prompt."""
    seed: int = 0
    """Random seed of the preview samples, the same for every grid."""
    scheduler: SchedulerName = "default"
    """Solver; default is the model's own."""
    steps: int = 50
    """Number of denoising steps."""
    guidance_scale: float = 7.5
    """Scale of classifier-free guidance; 1 turns it off."""
    judge: str | None = None
    """What scores the samples of every grid: a scorer such as hps_v2.1, module:function of pixels and prompts, or
    NAME=COMMAND of a judge that is a process. Null scores nothing. A judge that fails costs the score alone."""
    judge_column: str | None = None
    """Column that counts, for a process with several."""
    judge_places: tuple[str, ...] = ()
    """Where a scorer's files are, as METRIC.PART=PLACE, e.g. pickscore.weights=/data/PickScore_v1."""
    judged_per_prompt: int | None = None
    """Number of samples of each prompt that are scored; those beyond per_prompt are drawn for the score alone. Null
    scores the samples of the grid."""
    batch_size: int | None = None
    """Number of samples drawn at once, of several prompts together: small pictures are drawn faster, large ones fit if
    it is below per_prompt. Null draws each prompt's by themselves, per_prompt at once."""

    @property
    def at_once(self) -> int:
        """Number of samples in the largest batch that is drawn."""
        most = max(self.per_prompt, (self.judged_per_prompt or 0) - self.per_prompt) * max(1, len(self.prompts))
        return self.per_prompt if self.batch_size is None else min(self.batch_size, most)

    def __post_init__(self):
        at_least("preview", self, 1, "per_prompt", "steps", "judged_per_prompt", "batch_size")
        at_least("preview", self, 0, "every", "guidance_scale")
        _check_judge("preview", self, self.judge, ("judge_column", "judge_places", "judged_per_prompt"))
        if self.judge is not None and len(set(self.prompts)) < 2:
            raise ValueError(
                f"preview.judge={self.judge} scores over prompts and needs 2 or more different ones; preview.prompts "
                f"has {len(set(self.prompts))}"
            )
        if self.every and not self.prompts:
            raise ValueError(f"preview.every={self.every} needs preview.prompts, which is empty; add a prompt")
