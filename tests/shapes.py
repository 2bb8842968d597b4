"""Checks the core's shape annotations while tests run; see conftest.py."""

from collections.abc import Callable

from beartype import beartype
from jaxtyping import AbstractArray


def shapes_only(function: Callable) -> Callable:
    """Checks the annotations of arrays and no others: a value out of its Literal is for our own errors to name."""
    function.__annotations__ = {
        name: annotation
        for name, annotation in function.__annotations__.items()
        if isinstance(annotation, type) and issubclass(annotation, AbstractArray)
    }
    return beartype(function)
