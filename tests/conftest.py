"""Set before anything is imported: no network, one thread, and the core's shape annotations are checked."""

import atexit
import os
import shutil
import signal
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
# hashes that are remembered between commands; gone with the tests
os.environ["SEPPO_CACHE_HOME"] = tempfile.mkdtemp(prefix="seppo-tests-")

import pytest
import torch
from jaxtyping import install_import_hook

from tests.shapes import shapes_only

pytest_plugins = ["tests.cpu_times"]

# two threads are slower than one at these sizes
torch.set_num_threads(1)

install_import_hook(
    [
        f"seppo_core.{name}"
        for name in (
            "methods",
            "models.noise_path",
            "models.sampling",
            "models.text",
            "models.vae",
        )
    ],
    f"{shapes_only.__module__}.{shapes_only.__name__}",
)

atexit.register(shutil.rmtree, os.environ["SEPPO_CACHE_HOME"], ignore_errors=True)

# after the hook, so that what it imports is checked too
from tests.workshop import workshop  # noqa: E402, F401


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A job started in the background has SIGINT ignored, and so would all that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
