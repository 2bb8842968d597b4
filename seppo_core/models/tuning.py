"""Marks what is trained: the full weights (or a named part of them), or a LoRA on a frozen base."""

import re

import torch
from diffusers.loaders import PeftAdapterMixin
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from seppo_core.distributed.dtensor import shard_like, to_full
from seppo_core.io import purposes
from seppo_core.io.rng import keyed_generator

POLICY = "policy"
"""Name of the LoRA that is trained; its portable names leave it out, as peft's own files do."""


def tune_full(denoiser: nn.Module, pattern: str = ".*") -> None:
    """Makes the parameters whose names match `pattern` from their start trainable, in float32, and freezes the rest.

    AdamW steps of 1e-5 vanish in half-precision weights, so trained weights are float32; autocast does the rest.
    ValueError if nothing matches.
    """
    denoiser.requires_grad_(False)
    matched = [(name, p) for name, p in denoiser.named_parameters() if re.match(pattern, name)]
    if not matched:
        raise ValueError(f"no parameter of {type(denoiser).__name__} matches {pattern!r}; nothing would be trained")
    for _, parameter in matched:
        # cloned: weights that are mapped from a file begin anywhere, a copy's at a multiple of 64 bytes, and some CPU
        # kernels (a matrix times one vector) round by that, so that a policy and its copy would not tie
        parameter.data = parameter.data.float().clone()
        parameter.requires_grad_(True)


def tune_lora(
    denoiser: nn.Module, targets: str | list[str], rank: int, alpha: float | None = None, seed: int = 0
) -> None:
    """Puts a fresh LoRA (Hu et al. 2021) named "policy" on `targets` of a frozen denoiser; alpha defaults to the rank.

    A LoRA named so that is there already (loaded from a file) is kept, and only made trainable. LoRA weights are
    float32 whatever the base is.
    """
    denoiser.requires_grad_(False)
    if not lora_layers(denoiser):
        # an int if the number is whole: diffusers compares alpha with the rank when it writes files
        alpha = rank if alpha is None else int(alpha) if float(alpha).is_integer() else alpha
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)
        # peft initialises from the global generator; keyed and forked, every process and every start gets the same
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed_generator(seed, purposes.LORA).initial_seed())
            # peft's own call: not every denoiser of diffusers has its LoRA methods
            inject_adapter_in_model(config, denoiser, POLICY)
    for layer in lora_layers(denoiser):
        layer.set_adapter(POLICY)
    for parameter in denoiser.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def lora_layers(denoiser: nn.Module) -> list[BaseTunerLayer]:
    """The layers that carry a LoRA, in module order; empty for a model without one."""
    return [module for module in denoiser.modules() if isinstance(module, BaseTunerLayer)]


def merge_lora(denoiser: nn.Module) -> None:
    """Adds the policy's LoRA to the weights it sits on and removes it; full weights are left as they are."""
    layers = lora_layers(denoiser)
    for layer in layers:
        layer.merge(adapter_names=[POLICY])
    if layers:
        # called on the class, for not every denoiser of diffusers has its LoRA methods
        PeftAdapterMixin.unload_lora(denoiser)


def trainable_parameters(denoiser: nn.Module) -> dict[str, nn.Parameter]:
    """The trained parameters by portable name: the model's own for full weights, peft's file names for a LoRA."""
    return {portable_name(name): p for name, p in denoiser.named_parameters() if p.requires_grad}


def trainable_state(denoiser: nn.Module, keep: bool = True) -> dict[str, Tensor]:
    """A copy of the trained parameters on the CPU, by portable name: all that a snapshot or checkpoint must hold.

    If the model is sharded, all processes must call it; those that do not need the copy set `keep` to False.
    """
    state = {}
    for name, parameter in trainable_parameters(denoiser).items():
        whole = to_full(parameter.detach())
        if keep:
            state[name] = whole.to("cpu", copy=True)
    return state


@torch.no_grad()
def load_trainable_state(denoiser: nn.Module, state: dict[str, Tensor]) -> None:
    """Copies `state` into the trained parameters; ValueError, naming one, if names or shapes differ."""
    copy_state(trainable_parameters(denoiser), state)


@torch.no_grad()
def copy_state(parameters: dict[str, nn.Parameter], state: dict[str, Tensor]) -> None:
    """Copies `state` into `parameters` of the same names and shapes; ValueError, naming one, if they differ."""
    if parameters.keys() != state.keys():
        odd = sorted(parameters.keys() ^ state.keys())
        raise ValueError(
            f"the saved weights are of another model or tuning: {len(odd)} names differ, e.g. {odd[0]!r}; "
            "use the configuration that the run was started with"
        )
    for name, parameter in parameters.items():
        if parameter.shape != state[name].shape:
            raise ValueError(
                f"saved {name!r} has shape {tuple(state[name].shape)}, the model's is {tuple(parameter.shape)}; "
                "use the configuration that the run was started with (LoRA rank?)"
            )
        parameter.copy_(shard_like(state[name], parameter))
    forget_casts()


def forget_casts() -> None:
    """To be called whenever weights have got other values in place: autocast keeps its half-precision casts by tensor
    until its context ends, and would go on with those of the old values."""
    torch.clear_autocast_cache()


@torch.no_grad()
def same_state(parameters: dict[str, nn.Parameter], state: dict[str, Tensor]) -> bool:
    """Whether `parameters` have exactly the values of `state`. If they are sharded, all processes must ask."""
    # whole tensors, so that all processes come to the same answer, at the first difference
    return all(torch.equal(whole := to_full(p.detach()), state[name].to(whole)) for name, p in parameters.items())


def portable_name(name: str) -> str:
    return name.replace(f".{POLICY}.", ".")
