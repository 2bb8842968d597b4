"""The blocks that a large model is a row of."""

from torch import nn


def blocks(model: nn.Module) -> list[nn.Module]:
    """The members of the model's outermost lists of modules: what runs as one and is moved as one."""
    found = []
    for child in model.children():
        found += list(child) if isinstance(child, nn.ModuleList) else blocks(child)
    return found
