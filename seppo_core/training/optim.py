"""The optimiser, its schedule, and the running average of the weights."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.optimization import get_scheduler
from packaging.version import Version
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import Adafactor

from seppo_core.config.training import OptimizerConfig
from seppo_core.distributed.dtensor import to_full
from seppo_core.io.rng import Draws
from seppo_core.models.tuning import copy_state, forget_casts
from seppo_core.training.parallel import ParallelStrategy

EIGHT_BITS_ON_CPU = Version("0.50.0")
"""First version of bitsandbytes whose 8-bit AdamW works on a CPU; 0.49.2 and earlier fail at the first step."""


def make_optimizer(config: OptimizerConfig, parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), bitsandbytes' with moments of 8 bits (Dettmers et al. 2022), or Adafactor
    (Shazeer & Stern 2018) with the rate as it is given, as Diffusion-DPO's code trains SDXL.

    ValueError if the second is asked for and cannot be had (`check_optimizer`).
    """
    settings = {"lr": config.lr} | _settings(config)
    values = list(parameters.values())
    if config.name == "adamw":
        return torch.optim.AdamW(values, **settings)
    if config.name == "adafactor":
        return Adafactor(values, clip_threshold=1.0, scale_parameter=False, relative_step=False, **settings)
    for device in {p.device for p in values}:
        check_optimizer(config, device)
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(values, **settings)


def check_optimizer(config: OptimizerConfig, device: torch.device) -> None:
    """ValueError if the optimizer needs bitsandbytes, and it is not installed or does not support `device`."""
    if config.name != "adamw8bit":
        return
    try:
        import bitsandbytes
    except ImportError as error:
        raise ValueError(
            "optimizer.name=adamw8bit needs bitsandbytes; pip install 'seppo[gpu]', or use adamw"
        ) from error
    if Version(bitsandbytes.__version__) < EIGHT_BITS_ON_CPU and device.type != "cuda":
        raise ValueError(
            f"optimizer.name=adamw8bit needs a CUDA device with bitsandbytes {bitsandbytes.__version__}, and the "
            f"weights are not on one; upgrade to {EIGHT_BITS_ON_CPU}, which knows the CPU too, or use adamw"
        )


def _settings(config: OptimizerConfig) -> dict[str, float | tuple[float, float]]:
    if config.name == "adafactor":
        return {"weight_decay": config.weight_decay}
    settings = {"betas": tuple(config.betas), "eps": config.eps, "weight_decay": config.weight_decay}
    # null is torch's own choice
    return settings | ({"fused": config.fused or None} if config.name == "adamw" else {})


def make_schedule(config: OptimizerConfig, optimizer: torch.optim.Optimizer, total: int, draws: Draws = 2) -> LambdaLR:
    """Warm-up, then constant or down to zero at update `total`.

    The warm-up's last update has the full rate, and its first the first part of that. With `draws` = 1 all come one
    update later, as in diffusers, so that the first has a rate of zero and moves nothing.
    """
    # diffusers' "constant" knows no warm-up
    name = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    warmup = config.warmup_updates
    schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    if draws == 1 or not warmup:
        return schedule
    after = schedule.lr_lambdas[0]
    return LambdaLR(optimizer, lambda done: (done + 1) / warmup if done < warmup else after(done))


def check_moments(config: OptimizerConfig, state: dict) -> None:
    """Raises ValueError if the state of a checkpoint's optimizer is not of the kind that `config` names. Notes in it
    whether steps are fused, which decides where counts of steps are kept."""
    names = {name for values in state["state"].values() for name in values}
    kept = "adamw" if "exp_avg" in names else "adafactor" if "RMS" in names else "adamw8bit"
    if names and kept != config.name:
        raise ValueError(
            f"optimizer.name={config.name} cannot go on with the checkpoint's moments, which another optimizer keeps "
            "in another form; go on with the old name, or name another folder as `run`"
        )
    if config.name == "adamw":
        for group in state["param_groups"]:
            group["fused"] = config.fused or None


def apply_config(config: OptimizerConfig, optimizer: torch.optim.Optimizer, schedule: LambdaLR) -> None:
    """Gives an optimizer and a schedule that come from a checkpoint the values of `config`, which may have changed
    since; to those that have not, it changes nothing."""
    schedule.base_lrs = [config.lr] * len(schedule.base_lrs)
    rates = [
        lr * factor(schedule.last_epoch) for lr, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    schedule._last_lr = rates
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group |= {"initial_lr": config.lr, "lr": rate} | _settings(config)


class Ema:
    """An exponential moving average of the trained weights: for previews, samples and export, never for training.

    Snapshots of the reference pool are the raw policy. Early on the decay is min(decay, (1 + n) / (10 + n)) after n
    updates, so that the start is forgotten.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float):
        self.parameters = parameters
        self.decay = decay
        self.average = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Moves towards the weights after update number `done`, counted from 1."""
        weight = 1 - min(self.decay, (1 + done) / (10 + done))
        for name, average in self.average.items():
            average.lerp_(self.parameters[name].detach(), weight)

    def state(self, keep: bool = True) -> dict[str, Tensor]:
        """The average on the CPU, by portable name; of a sharded model all processes must ask (`trainable_state`)."""
        whole = {}
        for name, average in self.average.items():
            tensor = to_full(average)
            if keep:
                whole[name] = tensor.to("cpu", copy=True)
        return whole

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Takes on a saved average; ValueError if names or shapes differ."""
        copy_state(self.average, state)

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """Context in which the model's weights are the average."""
        held = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            parameter.copy_(self.average[name])
        forget_casts()
        try:
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.copy_(held[name])
            forget_casts()


class Stepper:
    """Clips and steps: an update with a loss or a gradient that is not finite changes no weight.

    The health gate decides how many of those are too many.
    """

    def __init__(
        self, layout: ParallelStrategy, optimizer, schedule, parameters: list[nn.Parameter], max_norm: float | None
    ):
        self.layout, self.optimizer, self.schedule, self.parameters = layout, optimizer, schedule, parameters
        self.max_norm = math.inf if max_norm is None else max_norm

    def step(self, watched: dict[str, Tensor]) -> tuple[dict[str, float], bool]:
        """Applies the gradients of an update that gave these scalars, "loss" among them; the scalars as numbers, with
        the gradients' norm before clipping as "grad_norm", and whether the update was applied.

        Raises RuntimeError if no gradient arrived.
        """
        if all(parameter.grad is None for parameter in self.parameters):
            raise RuntimeError("no gradient reached the trained weights; the policy was not in the graph of the loss")
        norm = self.layout.clip(self.parameters, self.max_norm)
        # read at once: whoever reads waits for all that the device still has to do, once an update and no more
        values = torch.stack([*(value.to(norm) for value in watched.values()), norm]).tolist()
        numbers = dict(zip([*watched, "grad_norm"], values, strict=True))
        finite = math.isfinite(numbers["grad_norm"]) and math.isfinite(numbers["loss"])
        # under fp16 the scaler skips the step itself, and has to see it in order to lower its scale
        if finite or self.layout.accelerator.scaler is not None:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with warnings.catch_warnings():
            # torch misses the step of an update that was skipped
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self.schedule.step()
        return numbers, finite
