"""The origin that a number is published with: commit, versions, hardware, command, date."""

import os
import platform
import sys
from pathlib import Path

from seppo_core.io.versions import environment
from seppo_core.report.html import Html, element
from seppo_core.report.page import facts


def provenance() -> dict[str, str | int | None]:
    """Commit, date, versions, the machine and the command that runs."""
    return {
        **environment(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "command": command(),
    }


def command() -> str:
    """The command line as a reader would type it, without this machine's paths."""
    arguments = " ".join(sys.argv[1:])
    package = Path(sys.argv[0]).parent.name
    return f"python -m {package} {arguments}".strip()


def processor() -> str:
    """The processor's name; its architecture if the system does not tell."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def provenance_block(values: dict[str, str | int | None]) -> Html:
    """The origin as a list on the page; packages that are not installed are left out."""
    shown = [
        (name, element("code", str(value)) if name in ("commit", "command") else str(value))
        for name, value in values.items()
        if value is not None
    ]
    return facts(shown)
