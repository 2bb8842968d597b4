"""Set before anything is imported: no network, one thread, and the core's shape annotations are checked."""

import os
from collections.abc import Callable

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

# two threads are slower than one at these sizes
torch.set_num_threads(1)


def shapes_only(function: Callable) -> Callable:
    """Checks the annotations of arrays and no others: a value out of its Literal is for our own errors to name."""
    function.__annotations__ = {
        name: annotation
        for name, annotation in function.__annotations__.items()
        if isinstance(annotation, type) and issubclass(annotation, AbstractArray)
    }
    return beartype(function)


install_import_hook(
    [f"seppo_core.{name}" for name in ("losses", "path", "sampling", "step", "text", "vae")],
    "tests.conftest.shapes_only",
)
