"""Counts what code would compute and hold in memory on a GPU, by running it on tensors that have no memory."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry

from seppo_core.plan.step_costs import Cost

MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}
aten = torch.ops.aten
VIEWS = frozenset(
    {
        aten.view.default, aten.t.default, aten.transpose.int, aten.permute.default, aten.detach.default,
        aten.unsqueeze.default, aten.slice.Tensor, aten.expand.default, aten.split.Tensor,
    }
)  # fmt: skip
FREQUENT = frozenset(
    {
        aten._to_copy.default, aten.mm.default, aten.addmm.default, aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor,
        aten.div.Tensor, aten.silu.default, aten.silu_backward.default, aten.gelu.default, aten.gelu_backward.default,
        aten.native_group_norm.default, aten.native_group_norm_backward.default, aten.native_layer_norm.default,
        aten.native_layer_norm_backward.default, aten.convolution.default, aten.convolution_backward.default,
        aten.clone.default, aten.cat.default, aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_efficient_attention_backward.default,
    }
)  # fmt: skip
"""Operations that with `VIEWS` make up nearly all of a model's; each makes new tensors out of shapes alone."""
IN_PLACE = frozenset({aten.add_.Tensor})
_KINDS = {
    id(operation): kind
    for kind, operations in {"view": VIEWS, "new": FREQUENT, "in place": IN_PLACE}.items()
    for operation in operations
}
"""By identity, for to hash an operation takes longer than to run it."""
_DEVICE = torch.ops.prim.device.default


@contextmanager
def counting(known: Iterable[Tensor], mixed_precision: str = "no"):
    """Context that yields a Counter; memory of `known` tensors does not count, autocast is that of a GPU."""
    with GpuKernels(), autocast(mixed_precision), Counter(known) as counter:
        yield counter


def cost_of(action: Callable[[], Any], known: Iterable[Tensor], mixed_precision: str = "no") -> Cost:
    """The cost of calling `action`; its result counts as kept."""
    with counting(known, mixed_precision) as counter:
        result = action()
        cost = counter.cost
        del result
    return cost


def autocast(mixed_precision: str):
    """Autocast on the CPU, where tensors without memory say they are."""
    return torch.autocast("cpu", MIXED[mixed_precision]) if mixed_precision in MIXED else nullcontext()


def weights_of(*modules: nn.Module | None) -> list[Tensor]:
    """Parameters and buffers of the modules and the gradients that they have, each once."""
    tensors: dict[int, Tensor] = {}
    for module in modules:
        for tensor in [*module.parameters(), *module.buffers()] if module is not None else ():
            tensors[id(tensor)] = tensor
            if tensor.grad is not None:
                tensors[id(tensor.grad)] = tensor.grad
    return list(tensors.values())


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of all storages behind `tensors`, each counted once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def checkpointing(module: nn.Module, *arguments: Any) -> Any:
    """Gradient checkpointing as diffusers does it; for `enable_gradient_checkpointing` of a model that is counted."""

    def forward(*given: Any) -> Any:
        # function modes are not there any more when backward runs this again
        with GpuKernels():
            return module(*given)

    return checkpoint(forward, *arguments, use_reentrant=False)


class Counter(TorchDispatchMode):
    """Counts while it is open: FLOPs, and bytes of the storages that operations made and that are still alive.

    FLOPs are those of torch's own formulas (`torch.utils.flop_counter`). Its counter would do, but for the hooks that
    it puts on modules: they keep alive for a while what a GPU would have freed.
    """

    _made: ClassVar[dict[tuple, "_Made"]] = {}
    """What operations make, by their name and the numbers of their arguments."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would wrap each call against compilers, of which there are none here
        return False

    def __init__(self, known: Iterable[Tensor]):
        super().__init__()
        self.flops, self.live, self.peak = 0, 0, 0
        self._seen: dict[int, Any] = {tensor.untyped_storage()._cdata: None for tensor in known}

    @property
    def cost(self) -> Cost:
        """The cost of everything that has run so far."""
        return Cost(self.flops, self.peak, self.live)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is _DEVICE and type(args[0]) is FakeTensor:
            # half of all calls, and each would go through the dispatch of fake tensors
            return args[0].fake_device
        kwargs = kwargs or {}
        if func is aten._unsafe_view.default:
            # the same without memory
            func = aten.view.default
        kind = _KINDS.get(id(func))
        result = None if kind is None else self._run(kind, func, args, kwargs)
        if result is None:
            result = func(*args, **kwargs)
            self.flops += _flops(func, args, kwargs, result)
        for tensor in (result,) if type(result) is FakeTensor else tree_iter(result):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _run(self, kind: str, func: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """`func(*args, **kwargs)` without the checks of fake tensors' own dispatch, at a fifth of its time; None if
        the arguments are such that they matter."""
        numbers = tuple(map(_numbers, args))
        tensors = list(_tensors(args))
        if not tensors or not all(type(x) is FakeTensor and x.constant is None and x.dim() for x in tensors):
            return None
        mode, device = tensors[0].fake_mode, tensors[0].fake_device
        if kwargs.get("device") not in (None, device):
            return None
        if kind == "in place":
            return args[0]
        if kind == "view":
            with in_kernel_invocation_manager(mode):
                result = func(*args, **kwargs)
                return (
                    [_fake(x, mode, device) for x in result]
                    if isinstance(result, list)
                    else _fake(result, mode, device)
                )
        key = (id(func), numbers, *kwargs.items())
        made = self._made.get(key)
        if made is None:
            without_device = {name: value for name, value in kwargs.items() if name != "device"}
            with in_kernel_invocation_manager(mode):
                result = func(*args, **without_device)
            several = isinstance(result, tuple)
            outputs = [x if x is None else _numbers(x) for x in (result if several else (result,))]
            made = self._made[key] = _Made(several, outputs, _flops(func, args, kwargs, result))
        self.flops += made.flops
        with torch._C._DisableTorchDispatch():
            results = [
                x and _fake(torch.empty_strided(x[0], x[1], dtype=x[2], device="meta"), mode, device)
                for x in made.outputs
            ]
        return tuple(results) if made.several else results[0]

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)

        def gone(_: Any) -> None:
            del self._seen[key]
            self.live -= size

        self._seen[key] = weakref.ref(storage, gone)


class _Made(NamedTuple):
    """What an operation makes of arguments of some shapes."""

    several: bool
    """Whether it is a tuple of tensors."""
    outputs: list[tuple | None]
    """Shape, stride and dtype of each."""
    flops: int


def _flops(func: Callable[..., Any], args: tuple, kwargs: dict[str, Any], result: Any) -> int:
    formula = flop_registry.get(func._overloadpacket)
    return 0 if formula is None else formula(*args, **kwargs, out_val=result)


def _fake(meta: Tensor, mode: FakeTensorMode, device: torch.device) -> FakeTensor:
    """FakeTensor(mode, meta, device), whose constructor takes four times as long."""
    made = Tensor._make_subclass(FakeTensor, meta, False, dispatch_device=True, device_for_backend_keys=device)
    torch._C._set_throw_on_mutable_data_ptr(made)
    made.__dict__.update(_state(mode, device))
    return made


@cache
def _state(mode: FakeTensorMode, device: torch.device) -> dict[str, Any]:
    """The attributes of a new fake tensor."""
    with torch._C._DisableTorchDispatch():
        return vars(FakeTensor(mode, torch.empty(0, device="meta"), device))


def _tensors(args: Iterable[Any]) -> Iterator[Tensor]:
    for x in args:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from _tensors(x)


def _numbers(x: Any) -> Any:
    """Shape, stride and dtype of a tensor, or what else an operation takes, in a form to look up by."""
    if isinstance(x, Tensor):
        return x.shape, x.stride(), x.dtype
    if isinstance(x, list | tuple):
        return tuple(map(_numbers, x))
    # 1, 1.0 and True are equal, and dtypes come out by their types
    return None if x is None else (type(x), x)


class GpuKernels(TorchFunctionMode):
    """Makes code on CPU tensors run what it would on a GPU, as far as memory sees a difference.

    Attention is fused: it keeps its inputs, its result and a sum per row, never the matrix of all pairs. Autocast takes
    norms, softmax and interpolation to float32, which the CPU's does not.
    """

    raised = frozenset(
        {F.layer_norm, F.group_norm, F.softmax, F.interpolate, torch.softmax, torch.Tensor.softmax, torch.layer_norm}
    )

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _fused_attention(*args, **kwargs)
        if func in self.raised and torch.is_autocast_enabled("cpu"):
            args = tuple(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in args)
        return func(*args, **kwargs)


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    lead = query.shape[:-3]
    # a batch of one where heads come without, and one for all that comes before
    query, key, value = (x.reshape(-1, *x.shape[-3:]) for x in (query, key, value))
    kernel = aten._scaled_dot_product_efficient_attention
    result = kernel(
        query, key, value, _bias(attn_mask, query), torch.is_grad_enabled(), dropout_p, is_causal, scale=scale
    )[0]
    return result.reshape(*lead, *result.shape[-3:])


def _bias(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """A mask as what is added to the scores, in the query's dtype, as attention turns it itself."""
    if mask is None or mask.dtype != torch.bool:
        return mask if mask is None else mask.to(query.dtype)
    return torch.zeros(mask.shape, dtype=query.dtype).masked_fill(~mask, float("-inf"))
