"""References: earlier policies, kept on disk as snapshots and drawn once per iteration."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from peft import inject_adapter_in_model
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from seppo_core.config.method_specs import Strategy
from seppo_core.distributed.dtensor import to_local
from seppo_core.io import purposes
from seppo_core.io.atomic import save_tensors
from seppo_core.io.ledger import Ledger
from seppo_core.io.remembered import remembered_sha256
from seppo_core.io.rng import NEWEST, Draws, keyed_stream
from seppo_core.models.finite import first_not_finite
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


class ReferencePool:
    """Snapshots of the raw policy (never of its EMA), one at the start of every iteration; entry 0 is the start itself.

    `choose` picks the one that generates an iteration's samples and stands as reference in its loss (Algorithm 1 of
    arXiv 2410.05255): "random" is uniform over all entries so far, "latest" the policy at the iteration's start,
    "initial" entry 0. The choice is keyed by (seed, iteration), hence the same in every process and after a resume.

    `ledger` holds the hashes of the snapshots; without one nothing is compared.

    `sampled_from` is the strategy by which the one that generates is chosen, if it is not the loss's.

    `window` makes "random" another method than the paper's: it draws from the newest so many entries, and those
    before are deleted.
    """

    def __init__(
        self,
        folder: Path,
        strategy: Strategy = "random",
        seed: int = 0,
        window: int | None = None,
        sampled_from: Strategy | None = None,
        ledger: Ledger | None = None,
        draws: Draws = NEWEST,
    ):
        if window is not None and (window < 1 or strategy != "random"):
            raise ValueError(f"window={window} needs strategy random and at least 1; the strategy is {strategy}")
        self.folder = folder
        self.strategy = strategy
        self.seed = seed
        self.window = window
        self.sampled_from = sampled_from or strategy
        self.ledger = ledger
        self.draws = draws

    def keeps(self, iteration: int) -> bool:
        """Whether entry `iteration` can ever be drawn, so that it is worth its disk."""
        return iteration == 0 or {self.strategy, self.sampled_from} != {"initial"}

    def save(self, iteration: int, state: dict[str, Tensor]) -> None:
        """Writes entry `iteration` whole or not at all; an entry that is there stays as it is, unless it is damaged.

        FloatingPointError, and nothing is written, if a value is not finite.
        """
        path = self._file(iteration)
        if path.exists():
            if not self._is_damaged(iteration, state):
                return
            print(f"{path} was damaged and is written anew from the policy")
        if (name := first_not_finite(state)) is not None:
            raise FloatingPointError(
                f"{name!r} of the policy is not finite at the start of iteration {iteration}: the run has diverged; go "
                "on from an earlier checkpoint with a lower optimizer.lr"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with nullcontext() if self.ledger is None else self.ledger.writing(path):
            save_tensors(path, state, {"iteration": str(iteration)})

    def _is_damaged(self, iteration: int, state: dict[str, Tensor]) -> bool:
        """Whether the entry cannot be what was written, `state` if that was not recorded."""
        try:
            there = self.load(iteration)
        except ValueError:
            return True
        if self.ledger is None or self.ledger.knows(self._file(iteration)):
            return False
        return there.keys() != state.keys() or not all(torch.equal(there[name], state[name]) for name in state)

    def choose(self, iteration: int) -> int:
        """Index of the reference for `iteration`, in 0..iteration."""
        return self._choose(self.strategy, iteration)

    def choose_sampler(self, iteration: int) -> int:
        """Index of the entry that generates the samples of `iteration`, in 0..iteration."""
        return self._choose(self.sampled_from, iteration)

    def _choose(self, strategy: Strategy, iteration: int) -> int:
        if strategy == "initial":
            return 0
        if strategy == "latest":
            return iteration
        if strategy == "random":
            oldest = self._oldest(iteration)
            stream = keyed_stream(self.draws, self.seed, purposes.REFERENCE, iteration)
            return oldest + stream.integer(iteration + 1 - oldest)
        raise ValueError(f'reference strategy {strategy!r} is not known; use "random", "latest" or "initial"')

    def entries(self, iteration: int) -> int:
        """Number of entries that `choose` chooses from."""
        return iteration + 1 - self._oldest(iteration) if self.strategy == "random" else 1

    def forget(self, iteration: int) -> None:
        """Deletes what `iteration` and those after cannot draw; nothing, unless `window` is set."""
        for index in range(self._oldest(iteration)):
            self._file(index).unlink(missing_ok=True)
            if self.ledger is not None:
                self.ledger.forget(self._file(index))

    def load(self, index: int) -> dict[str, Tensor]:
        """State of entry `index`, on the CPU; FileNotFoundError if it is not there, ValueError if it is damaged."""
        path = self._file(index)
        if not path.exists():
            raise FileNotFoundError(f"reference snapshot {path} is missing; the run cannot go on without it")
        problem = None if self.ledger is None else self.ledger.problem(path)
        if problem is None:
            try:
                state = load_file(path)
            except SafetensorError as error:
                problem = f"cannot be read ({error})"
            else:
                name = first_not_finite(state)
                problem = None if name is None else f"holds values that are not finite ({name!r})"
        if problem is not None:
            raise ValueError(
                f"reference snapshot {path} {problem}, and the run cannot go on without it; bring it back from a copy, "
                "or name another folder as `run`"
            )
        return state

    def content(self, index: int) -> str:
        """The hash of entry `index`."""
        return remembered_sha256(self._file(index))

    def _oldest(self, iteration: int) -> int:
        return 0 if self.window is None else max(0, iteration + 1 - self.window)

    def _file(self, index: int) -> Path:
        return self.folder / f"snapshot-{index:04d}.safetensors"


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

    One slot is refilled for every reference, so that compiled graphs and memory do not grow with the pool.
    """

    def __init__(self, denoiser: nn.Module):
        super().__init__(denoiser)
        self._layers = lora_layers(denoiser)
        with warnings.catch_warnings():
            # peft warns of any second adapter; here it is meant
            warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
            inject_adapter_in_model(replace(denoiser.peft_config[POLICY]), denoiser, REFERENCE)
        for parameter in self._slot().values():
            parameter.data = parameter.data.float()
        self._switch(POLICY)

    def _load(self, state: dict[str, Tensor]) -> None:
        copy_state(self._slot(), state)

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        for layer in self._layers:
            layer.set_adapter(REFERENCE, inference_mode=True)
        try:
            with torch.no_grad():
                yield self.denoiser
        finally:
            # set_adapter also takes requires_grad off the policy's LoRA; without this its gradients silently vanish
            self._switch(POLICY)

    def _slot(self) -> dict[str, nn.Parameter]:
        """The second LoRA's parameters by portable name; looked up anew, for sharding puts others in their places."""
        return {
            portable_name(name.replace(f".{REFERENCE}.", ".")): parameter
            for name, parameter in self.denoiser.named_parameters()
            if f".{REFERENCE}." in name
        }

    def _switch(self, name: str) -> None:
        for layer in self._layers:
            layer.set_adapter(name)


def make_reference(denoiser: nn.Module, offload: bool = False) -> Reference:
    """A LoRA view if the policy is a LoRA; else a frozen copy, which with `offload` waits in the CPU's memory."""
    return LoraView(denoiser) if lora_layers(denoiser) else FrozenCopy(denoiser, offload)
