"""The memory of the machine itself, which its GPUs' processes share. Imports no torch."""

import os
import re
from pathlib import Path

from seppo_core.config.gpus import GIB, GPUS
from seppo_core.config.options import PlanRequest

DRIVER = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver says which GPUs this machine has."""
LIMIT = Path("/sys/fs/cgroup/memory.max")
"""What a container or a job may take, in bytes."""
MOST = 8
"""GPUs of one machine; more are in several."""


def host_memory(request: PlanRequest) -> int | None:
    """Bytes of the machine that is planned for: as requested, else this one's if it has such a GPU, else unknown."""
    if request.host_memory is not None:
        return int(request.host_memory * GIB)
    name = re.split(r" \d+ GB", GPUS[request.gpu].title)[0]
    if not any(name in file.read_text(encoding="utf-8") for file in DRIVER.glob("*/information")):
        return None
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = LIMIT.read_text(encoding="ascii").strip() if LIMIT.is_file() else ""
    return min(installed, int(limit)) if limit.isdigit() else installed


def processes(request: PlanRequest) -> int:
    """Processes of one machine."""
    return min(request.gpus, MOST)
