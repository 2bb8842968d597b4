"""Pipelines without weights: every tensor has a shape, a dtype and no memory."""

import inspect
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from diffusers.models import ModelMixin
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from seppo_core.config.schema import Config
from seppo_core.io.lazy import import_object
from seppo_core.models.adapter import Adapter
from seppo_core.models.latents import Condition
from seppo_core.plan.architecture import ArchitectureConfig, base_architecture, replacements

P = TypeVar("P", bound=DiffusionPipeline)


@dataclass
class Tokenizer:
    """Replaces a tokenizer, since captions are only counted here."""

    model_max_length: int
    padding_side: str = "right"


def build_adapter(config: Config, dtype: torch.dtype) -> Adapter:
    """The adapter that training on `config` would load, its weights on the meta device.

    Raises FileNotFoundError if nothing is known without network of the base or of what replaces its components.
    """
    model = config.model
    parts = model.parts()
    pipeline = build_pipeline(
        getattr(diffusers, model.spec.pipeline),
        base_architecture(config),
        dtype,
        replaced=replacements(parts, model.bases),
        without=tuple(name for name, value in model.load_options().items() if value is None),
        from_image=parts.get("motion_adapter") is not None,
    )
    with warnings.catch_warnings():
        # it is for `train` to say what a base's schedule is replaced by
        warnings.simplefilter("ignore", UserWarning)
        return import_object(model.spec.adapter).configured(pipeline, model)


def caption_condition(adapter: Adapter) -> Condition:
    """Tensors like those that `encode_prompts` gives for one caption, (1, …) each, on the meta device."""
    with torch.device("meta"):
        return adapter.caption_shapes()


def build_pipeline(
    kind: type[P],
    numbers: ArchitectureConfig,
    dtype: torch.dtype,
    *,
    replaced: dict[str, dict[str, Any]] | None = None,
    without: tuple[str, ...] = (),
    from_image: bool = False,
) -> P:
    """A `kind` as `from_pretrained` in `dtype` would give it, its weights on the meta device.

    `replaced` are configs of components in place of the base's own; those in `without` are None. With `from_image` the
    base may be of a pipeline that `kind` builds upon. A tokenizer is stood
    for by its length alone. Raises ValueError if `numbers` belong to another pipeline.
    """
    found = numbers.index["_class_name"]
    if found != kind.__name__ and not from_image:
        raise ValueError(f"{numbers.origin} are of a {found}; this family needs a {kind.__name__}")
    parts = numbers.parts | (replaced or {})
    taken = inspect.signature(kind.__init__).parameters
    # the tables of a scheduler are read, so that they are real
    given = {"scheduler": getattr(diffusers, numbers.index["scheduler"][1]).from_config(parts["scheduler"])}
    with torch.device("meta"):
        for name, parameter in taken.items():
            value = numbers.index.get(name)
            if name in ("self", *given):
                continue
            if name in parts and name not in without:
                given[name] = _component(name, value, parts[name], dtype)
            elif isinstance(value, str | bool | int | float):
                given[name] = value
            elif parameter.default is inspect.Parameter.empty:
                given[name] = None
        if "requires_safety_checker" in taken:
            given["requires_safety_checker"] = False
        pipeline = kind(**given)
    if pipeline.vae.config.get("force_upcast", True):
        cast_as_loaded(pipeline.vae, torch.float32)
    return pipeline


def build_model(numbers: dict[str, Any], dtype: torch.dtype, class_name: str | None = None) -> ModelMixin:
    """A diffusers model of its config, whose own class name holds unless another is asked for."""
    kind = getattr(diffusers, class_name or numbers["_class_name"])
    model = kind.from_config(numbers).eval().requires_grad_(False)
    cast_as_loaded(model, dtype, model._keep_in_fp32_modules)
    return model


def cast_as_loaded(module: nn.Module, dtype: torch.dtype, kept: Iterable[str] | None = None) -> None:
    """The floating-point weights of `module` in `dtype`, but for those in parts named in `kept`, which are float32."""
    kept = kept or ()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point():
            whole = any(part in kept for part in name.split("."))
            tensor.data = tensor.data.to(torch.float32 if whole else dtype)


def _component(name: str, entry: list[str] | None, config: dict[str, Any], dtype: torch.dtype) -> Any:
    library, class_name = entry or ("diffusers", config["_class_name"])
    if name.startswith("tokenizer"):
        return Tokenizer(config.get("model_max_length", 77))
    if library == "diffusers":
        return build_model(config, dtype, class_name)
    if library == "transformers":
        kind = getattr(transformers, class_name)
        model = kind(kind.config_class.from_dict(config)).eval().requires_grad_(False)
        cast_as_loaded(model, dtype, kept=model._keep_in_fp32_modules if dtype == torch.float16 else None)
        return model
    if library.startswith("seppo_"):
        model = getattr(import_module(library), class_name).from_config(config).eval().requires_grad_(False)
        cast_as_loaded(model, dtype)
        return model
    raise ValueError(f"{name} is a {class_name} of {library}, which plan does not build; it knows diffusers' and ours")


def runnable(fake: FakeTensorMode, *modules: nn.Module) -> None:
    """Exchanges the weights of `modules` for tensors of `fake`, which still have no memory but know how to compute.

    Weights that modules share stay shared.
    """
    made: dict[int, Tensor] = {}
    for part in [part for module in modules for part in module.modules()]:
        for weights in (part._parameters, part._buffers):
            for name, tensor in weights.items():
                if tensor is None or isinstance(tensor, FakeTensor):
                    continue
                if id(tensor) not in made:
                    # made by hand: in the dispatch of fake tensors, a parameter takes ten times as long
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
                    one = FakeTensor(fake, empty, torch.device("cpu")).requires_grad_(tensor.requires_grad)
                    if isinstance(tensor, nn.Parameter):
                        one._is_param = True
                    made[id(tensor)] = one
                weights[name] = made[id(tensor)]
