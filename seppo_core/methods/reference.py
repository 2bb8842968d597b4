"""References: earlier policies, ready to predict beside the one that is trained."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import torch
from peft import inject_adapter_in_model
from torch import Tensor, nn

from seppo_core.distributed.dtensor import to_local
from seppo_core.models.tuning import (
    POLICY,
    copy_state,
    forget_casts,
    lora_layers,
    portable_name,
    same_state,
    trainable_parameters,
)

REFERENCE = "reference"
MATRICES = (".lora_A.weight", ".lora_B.weight")
"""How the names of a plain LoRA's weights end."""


class Reference(ABC):
    """An earlier policy, ready to predict. Its users do not ask which kind it is."""

    equals_policy: bool = False
    """Whether the reference is known to have the policy's weights, so that both tie whatever their kernels round to.
    Always False unless the policy's optimizer is tracked (`track`)."""
    _tracked: bool = False

    def __init__(self, denoiser: nn.Module):
        self.denoiser = denoiser

    def track(self, optimizer: torch.optim.Optimizer) -> None:
        """Keeps `equals_policy` up to date from now on: `load` compares the weights, and each step of the policy's
        `optimizer` ends the equality, unless its learning rate is 0. Call it once."""
        self._tracked = True

        def stepped(optimizer: torch.optim.Optimizer, *_) -> None:
            # a warm-up begins with a rate of 0, which changes no weight
            if any(group["lr"] for group in optimizer.param_groups):
                self.equals_policy = False

        optimizer.register_step_post_hook(stepped)

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes on a snapshot's weights. If the model is sharded, all processes must call it."""
        self._load(state)
        self.equals_policy = self._tracked and same_state(trainable_parameters(self.denoiser), state)

    @abstractmethod
    def _load(self, state: dict[str, Tensor]) -> None:
        """Copies a snapshot into the reference's own weights."""

    @abstractmethod
    def active(self) -> Iterator[nn.Module]:
        """Context in which the module it yields predicts as the reference, without gradient. Not to be held across a
        forward or backward pass of the policy."""


class FrozenCopy(Reference):
    """A copy with its own trained weights; parameters that are not trained are shared with the policy.

    Make it before `accelerator.prepare`, which patches the policy's forward. With `offload` its weights wait in the
    CPU's memory and are on the device only while it is active.
    """

    def __init__(self, denoiser: nn.Module, offload: bool = False):
        super().__init__(denoiser)
        trained = trainable_parameters(denoiser)
        shared = {id(p): p for p in denoiser.parameters() if not p.requires_grad}
        self.module = deepcopy(denoiser, memo=shared)
        self.module.requires_grad_(False)
        self._trained = set(trained)
        self._waiting = None
        if offload:
            self._device = next(iter(trained.values())).device
            self._waiting = self._held()
            for parameter in self._waiting.values():
                parameter.data = parameter.data.cpu()

    def _load(self, state: dict[str, Tensor]) -> None:
        copy_state(self._held(), state)

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        if self._waiting is None:
            with torch.no_grad():
                yield self.module
            return
        kept = {name: parameter.data for name, parameter in self._waiting.items()}
        for parameter in self._waiting.values():
            parameter.data = parameter.data.to(self._device, non_blocking=True)
        try:
            with torch.no_grad():
                yield self.module
        finally:
            # they did not change, so that nothing has to be copied back
            for name, parameter in self._waiting.items():
                parameter.data = kept[name]

    def _held(self) -> dict[str, nn.Parameter]:
        found = {portable_name(name): parameter for name, parameter in self.module.named_parameters()}
        return {name: found[name] for name in self._trained}


class SwappedWeightsReference(Reference):
    """Reference that shares the policy's module: it swaps in a second set of the trained weights while active.

    It is for a sharded policy, since a second module could not share the slices of the frozen weights. Each use copies
    the trained slices twice, and memory holds one more set of them. Make it after sharding.
    """

    def __init__(self, denoiser: nn.Module):
        super().__init__(denoiser)
        self._policy = trainable_parameters(denoiser)
        self._other = {name: parameter.detach().clone() for name, parameter in self._policy.items()}

    def _load(self, state: dict[str, Tensor]) -> None:
        copy_state(self._other, state)

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        with torch.no_grad():
            self._exchange()
            try:
                yield self.denoiser
            finally:
                self._exchange()

    def _exchange(self) -> None:
        for name, parameter in self._policy.items():
            here, there = to_local(parameter), to_local(self._other[name])
            kept = here.clone()
            here.copy_(there)
            there.copy_(kept)
        forget_casts()


class LoraView(Reference):
    """The policy's own base with a second LoRA, switched in while active: no second model in memory.

    One slot is refilled for every reference, so that compiled graphs and memory do not grow with the pool. Of a
    reference that is the base itself no LoRA is computed.
    """

    def __init__(self, denoiser: nn.Module):
        super().__init__(denoiser)
        self._layers = lora_layers(denoiser)
        self._is_base = False
        with warnings.catch_warnings():
            # peft warns of any second adapter; here it is meant
            warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
            inject_adapter_in_model(replace(denoiser.peft_config[POLICY]), denoiser, REFERENCE)
        for parameter in self._slot().values():
            parameter.data = parameter.data.float()
        self._switch(POLICY)

    def _load(self, state: dict[str, Tensor]) -> None:
        copy_state(self._slot(), state)
        # by the whole state, so that all processes choose alike
        self._is_base = self._adds_nothing(state)

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        for layer in self._layers:
            if self._is_base:
                layer.enable_adapters(False)
            else:
                layer.set_adapter(REFERENCE, inference_mode=True)
        try:
            with torch.no_grad():
                yield self.denoiser
        finally:
            # both also take requires_grad off the policy's LoRA; without this its gradients silently vanish
            self._switch(POLICY)

    def _slot(self) -> dict[str, nn.Parameter]:
        """The second LoRA's parameters by portable name; looked up anew, for sharding puts others in their places."""
        return {
            portable_name(name.replace(f".{REFERENCE}.", ".")): parameter
            for name, parameter in self.denoiser.named_parameters()
            if f".{REFERENCE}." in name
        }

    def _adds_nothing(self, state: dict[str, Tensor]) -> bool:
        """Whether `state` leaves the base as it is: a plain LoRA, with magnitudes, biases or whole layers in no place,
        all of whose B are zero."""
        config = self.denoiser.peft_config[POLICY]
        if config.use_dora or config.use_rslora or not all(name.endswith(MATRICES) for name in state):
            return False
        return not any(value.any() for name, value in state.items() if name.endswith(MATRICES[1]))

    def _switch(self, name: str) -> None:
        for layer in self._layers:
            layer.set_adapter(name)
            if layer.disable_adapters:
                layer.enable_adapters(True)


def make_reference(denoiser: nn.Module, offload: bool = False) -> Reference:
    """A LoRA view if the policy is a LoRA; else a frozen copy, which with `offload` waits in the CPU's memory."""
    return LoraView(denoiser) if lora_layers(denoiser) else FrozenCopy(denoiser, offload)
