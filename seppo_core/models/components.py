"""Loads one model of a pipeline and makes sure that its file gave every weight.

The libraries only log what a file lacked, fill it with random numbers and go on.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging as transformers_logging

from seppo_core.config.messages import first_line

M = TypeVar("M", bound=nn.Module)

NOT_NEEDED = re.compile(
    r"(^|\.)(position_ids|inv_freq|num_batches_tracked|pos_embed|pos_embedding|pe|(shared|embed_tokens)\.weight)$"
    r"|^(lm_head|logit_scale|text_projection|visual_projection|vision_model|decoder)(\.|$)"
)
"""Tensors that a file may have in excess: tables that newer classes compute, second names of the embedding, and heads
of the model that a text encoder was cut out of."""
SHOWN = 3
DAMAGE = (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError)
"""What the libraries raise where a config or a vocabulary is not what they expect."""


def load_component(kind: type[M], source: str, what: str, dtype: torch.dtype, *, variant: str | None = None) -> M:
    """A model of class `kind` from a folder or the hub, read from safetensors alone.

    Raises ValueError, which calls the model `what`, if tensors are missing, unknown or of other shapes than the
    model's, or if its files cannot be read; FileNotFoundError if there are none.
    """
    try:
        with _quiet():
            module, info = kind.from_pretrained(
                source,
                use_safetensors=True,
                output_loading_info=True,
                dtype=dtype,
                **({} if variant is None else {"variant": variant}),
            )
    except FileNotFoundError:
        raise
    except (*DAMAGE, RuntimeError, OSError, SafetensorError) as error:
        raise ValueError(
            f"{what} could not be loaded as a {kind.__name__}: {first_line(error, 300)}; {_CURE}"
        ) from error
    check_loaded(module, info, what)
    return module


def check_loaded(module: nn.Module, info: dict[str, Any], what: str) -> None:
    """Raises ValueError if a loader's `info` names tensors that the model and its file do not share."""
    missing = set(info["missing_keys"]) - _tied(module, info["missing_keys"])
    unknown = {name for name in info["unexpected_keys"] if not NOT_NEEDED.search(name)}
    # transformers gives the two shapes beside the name
    misfits = {str(name if isinstance(name, str) else name[0]) for name in info["mismatched_keys"]}
    found = [
        f"{what} {verb} {len(names)} tensors{more} ({_some(names)})"
        for verb, names, more in (
            ("lacks", missing, ""),
            ("has", unknown, f" that a {type(module).__name__} does not know"),
            ("has", misfits, " of other shapes than its config.json says"),
        )
        if names
    ]
    if found:
        # one tensor is no plural
        raise ValueError(f"{' and '.join(found).replace(' 1 tensors', ' 1 tensor')}; {_CURE}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries from advice on tensors that a file lacks (to train them): it is told, and refused, here."""
    before = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error(), transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(before[0])
        transformers_logging.set_verbosity(before[1])


def _tied(module: nn.Module, missing: Iterable[str]) -> set[str]:
    """Those of the `missing` parameters that are one tensor with a parameter that was loaded."""
    parameters, missing = dict(module.named_parameters(remove_duplicate=False)), set(missing)
    loaded = {id(parameter) for name, parameter in parameters.items() if name not in missing}
    return {name for name in missing if name in parameters and id(parameters[name]) in loaded}


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:SHOWN]
    return ", ".join(shown) + (", …" if len(names) > SHOWN else "")


_CURE = "nothing is trained on weights that are not the base's: download it again, or convert it anew"
