"""Lets torchvision's CUDA wheels be imported beside a CPU build of torch.

Their compiled library needs CUDA, so two operators are never registered and the import stops at the first of them. Here
they get a signature and no body: what needs them raises, everything else works. Only the parity environment has
torchvision, and the product never does.

A pytest plugin, because it has to come before the first conftest: `pytest -p tests.parity.operators tests/parity`.
"""

import sys

import torch

SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: list[torch.library.Library] = []
"""The signatures live as long as this object does."""


def make_torchvision_importable() -> None:
    """Does nothing where torchvision imports by itself; ModuleNotFoundError where it is not installed."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}{SIGNATURE}")
        _library.append(library)
        import torchvision  # noqa: F401


make_torchvision_importable()
