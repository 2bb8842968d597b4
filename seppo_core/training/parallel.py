"""How the trained model is spread over the processes: whole on each, or in shards."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from seppo_core.config.training import LoopConfig
from seppo_core.distributed.dtensor import shard_like, to_full
from seppo_core.distributed.ranks import Ranks
from seppo_core.methods.reference import LoraView, Reference, SwappedWeightsReference, make_reference
from seppo_core.models.blocks import blocks
from seppo_core.models.compiling import compile_blocks
from seppo_core.models.context import TokenSplit
from seppo_core.models.offload import OffloadedBlocks
from seppo_core.models.tuning import lora_layers


class ParallelStrategy(ABC):
    """Places policy and reference on the processes; gathers and spreads the optimizer's state."""

    collective: bool
    """Whether a forward pass needs all processes at once, or all of a group."""

    def __init__(self, accelerator: Accelerator, loop: LoopConfig, text_too: bool = False):
        """`text_too`: whether captions are split with the latents (`FamilySpec.context`)."""
        self.accelerator, self.loop = accelerator, loop
        size, ranks = loop.context_parallel, Ranks.of(accelerator)
        self.groups = ranks.grouped(size)
        """Which group this process is of, and how many there are; a group sees the same items."""
        self.leads = ranks.rank % size == 0
        """Whether this process writes down what its group makes."""
        self._split = None if size == 1 else TokenSplit(size, accelerator.device, text_too)
        self.collective = self.collective or size > 1

    def divisor(self, micro_batches: int) -> float:
        """What to divide the loss of each of so many micro-batches by. Gradients are averaged over all processes, and
        those of a group are parts, which have to be added."""
        return micro_batches / self.loop.context_parallel

    def saving(self) -> AbstractContextManager:
        """Context of the forward passes that a backward pass follows: where what it needs is kept."""
        if not self.loop.offload_activations:
            return nullcontext()
        return save_on_cpu(pin_memory=self.accelerator.device.type == "cuda")

    def place(self, denoiser: nn.Module, with_reference: bool) -> Reference | None:
        """Moves the tuned denoiser to its device, makes its reference, splits the tokens of both, and compiles both
        where `loop` asks for it; to be called before the optimizer is made."""
        reference = self._place(denoiser, with_reference)
        if self._split is not None or self.loop.compile is not None:
            with nullcontext(denoiser) if reference is None else reference.active() as other:
                # a copy is taken of plain blocks, and has its own changed
                for module in {denoiser, other}:
                    if self._split is not None:
                        self._split.apply(module)
                    if self.loop.compile is not None:
                        compile_blocks(module, self.loop.compile)
        return reference

    @abstractmethod
    def _place(self, denoiser: nn.Module, with_reference: bool) -> Reference | None: ...

    @abstractmethod
    def wrap(self, denoiser: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The wrapped policy and optimizer that the training loop calls."""

    @abstractmethod
    def accumulating(self, policy: nn.Module) -> AbstractContextManager:
        """Context of every micro-batch but the last one of a batch."""

    @abstractmethod
    def clip(self, parameters: list[nn.Parameter], max_norm: float) -> Tensor:
        """Clips the gradients to a norm over all processes, and returns the norm before clipping."""

    @abstractmethod
    def optimizer_state(self, optimizer: torch.optim.Optimizer, keep: bool) -> dict:
        """The full (unsharded) state of the optimizer. Call it on every rank; ranks with `keep` False get {}."""

    @abstractmethod
    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: dict) -> None:
        """Loads a full state."""


class Replicated(ParallelStrategy):
    """The whole model on every process: one GPU, or DDP."""

    collective = False

    def __init__(self, accelerator: Accelerator, loop: LoopConfig, text_too: bool = False, offload_base: bool = False):
        super().__init__(accelerator, loop, text_too)
        self.offload_base = offload_base

    def _place(self, denoiser, with_reference):
        if self.offload_base:
            # first, so that no device ever holds the whole
            OffloadedBlocks(denoiser, self.accelerator.device)
        denoiser.to(self.accelerator.device)
        # before prepare, which patches the forward that a frozen copy would then share
        return make_reference(denoiser, self.loop.offload_reference) if with_reference else None

    def wrap(self, denoiser, optimizer):
        return self.accelerator.prepare(denoiser, optimizer)

    def accumulating(self, policy):
        # gradients are exchanged on the last micro-batch only
        return self.accelerator.no_sync(policy)

    def clip(self, parameters, max_norm):
        return self.accelerator.clip_grad_norm_(parameters, max_norm)

    def optimizer_state(self, optimizer, keep):
        return optimizer.state_dict() if keep else {}

    def load_optimizer(self, optimizer, state):
        optimizer.load_state_dict(state)


class Sharded(ParallelStrategy):
    """Weights, gradients, moments and reference in shards (FSDP2, torch's `fully_shard`): for what one GPU cannot hold.

    A shard is a slice of every parameter. Blocks are gathered one at a time as a forward or backward pass gets to them.
    Gradients are exchanged at every micro-batch, since keeping them whole would undo what shards are for.
    """

    collective = True

    def __init__(self, accelerator: Accelerator, loop: LoopConfig, text_too: bool = False):
        super().__init__(accelerator, loop, text_too)
        self.mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))

    def _place(self, denoiser, with_reference):
        # a view puts its second LoRA into the layers, which are then cut with it
        view = LoraView(denoiser) if with_reference and lora_layers(denoiser) else None
        # still on the CPU: sharding moves one block at a time, so that no device ever holds the whole
        self._shard(denoiser)
        return SwappedWeightsReference(denoiser) if with_reference and view is None else view

    def wrap(self, denoiser, optimizer):
        return denoiser, self.accelerator.prepare(optimizer)

    def accumulating(self, policy):
        return nullcontext()

    def clip(self, parameters, max_norm):
        return to_full(nn.utils.clip_grad_norm_(parameters, max_norm))

    def optimizer_state(self, optimizer, keep):
        state = optimizer.state_dict()
        moments: dict = {}
        for key, values in state["state"].items():
            for name, value in values.items():
                whole = to_full(value) if torch.is_tensor(value) else value
                if keep:
                    moments.setdefault(key, {})[name] = whole.cpu() if torch.is_tensor(whole) else whole
        return state | {"state": moments} if keep else {}

    def load_optimizer(self, optimizer, state):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        moments = {
            key: {name: shard_like(value, parameters[key]) for name, value in values.items()}
            for key, values in state["state"].items()
        }
        optimizer.load_state_dict(state | {"state": moments})

    def _shard(self, model: nn.Module) -> None:
        for block in blocks(model):
            fully_shard(block, mesh=self.mesh)
        # the root too: what it kept gathered after a pass would outlive a change of its shards (EMA, a new reference)
        fully_shard(model, mesh=self.mesh, reshard_after_forward=True)


def make_strategy(
    accelerator: Accelerator, loop: LoopConfig, offload_base: bool = False, text_too: bool = False
) -> ParallelStrategy:
    """How `loop` asks for it; `offload_base` is the offloading of the frozen blocks, of a model that is not sharded.
    `text_too` is that captions are split where tokens are."""
    if loop.sharded:
        return Sharded(accelerator, loop, text_too)
    return Replicated(accelerator, loop, text_too, offload_base)
