"""Report for an issue: versions, devices, extras, disk, and what is missing. It contains no tokens.

Libraries that may be broken are imported late and one at a time, so that a broken installation is described.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from seppo_core.io.space import free_bytes
from seppo_core.io.versions import git_commit

OPTIONAL = {
    "xformers": "attention of UNets, the extra gpu",
    "bitsandbytes": "8-bit AdamW, the extra gpu",
    "datasets": "Hub datasets, the extra data",
    "pyarrow": "parquet files, the extra data",
    "open-clip-torch": "the scorers open_clip_score[MODEL:TAG], the extra clip",
    "scipy": "benchmarks, the extra bench",
    "wandb": "log.wandb",
}
VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "HF_HOME", "WORLD_SIZE", "RANK", "ACCELERATE_USE_CPU",
    "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "NCCL_DEBUG", "WANDB_MODE", "SEPPO_TRACEBACK",
)  # fmt: skip
"""Environment variables that change a run. None of them is a secret."""
ENCODERS = ("libx264", "libx264rgb", "ffv1")
LOW_DISK_BYTES = 20e9


@dataclass(frozen=True)
class Finding:
    """One line of the report; `bad` if it must be mended, with the cure."""

    text: str
    bad: str | None = None


def doctor(folder: Path) -> int:
    """Prints the report for a run in `folder`; the exit status, 1 if something must be mended."""
    findings = list(diagnose(folder))
    bad = [finding.bad for finding in findings if finding.bad]
    print("\n".join(finding.text for finding in findings))
    print("\n".join(f"Wrong: {line}" for line in bad) or "Nothing is wrong that can be seen from here.")
    return 1 if bad else 0


def diagnose(folder: Path) -> Iterator[Finding]:
    """All lines of the report; a part that raises becomes a line that says so."""
    parts = {
        "Versions": _versions, "Torch": _torch, "Optional packages": _optional, "Video": _video,
        "Disk": partial(_disk, folder), "Environment": _environment,
    }  # fmt: skip
    for title, part in parts.items():
        yield Finding(f"{title}:")
        try:
            yield from (Finding(f"    {finding.text}", finding.bad) for finding in part())
        except Exception as error:
            # a broken library may raise anything
            text = f"{title}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            yield Finding(f"    {text}", bad=text)


def _versions() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    yield Finding(f"seppo {version('seppo')} at commit {git_commit() or 'unknown'}")
    for needed in map(Requirement, requires("seppo") or []):
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            yield Finding(f"{needed.name} missing", bad=f"{needed.name} is missing: pip install '{needed}'")
            continue
        fits = needed.specifier.contains(found, prereleases=True)
        yield Finding(f"{needed.name} {found}", None if fits else f"{needed.name} {found} is installed, not {needed}")


def _torch() -> Iterator[Finding]:
    import torch
    from torch.utils import collect_env

    info = collect_env.get_env_info()._replace(cpu_info="", pip_packages="", conda_packages="")
    yield from (Finding(line) for line in collect_env.pretty_str(info).splitlines() if ": " in line)
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        yield Finding(f"cuda:{index}: {free / 1e9:.1f} of {total / 1e9:.1f} GB free")


def _optional() -> Iterator[Finding]:
    for name, use in OPTIONAL.items():
        try:
            yield Finding(f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding(f"{name} is not installed; needed for: {use}")
    try:
        import_module("torchvision")
    except ModuleNotFoundError:
        return
    except Exception as error:
        text = f"torchvision does not fit this torch ({type(error).__name__}) and breaks diffusers: pip uninstall it"
        yield Finding(text, bad=text)


def _video() -> Iterator[Finding]:
    import av

    missing = [name for name in ENCODERS if name not in av.codecs_available]
    bad = f"PyAV cannot encode {', '.join(missing)}, so that clips cannot be saved" if missing else None
    yield Finding(f"encoders {', '.join(name for name in ENCODERS if name not in missing)}", bad)


def _disk(folder: Path) -> Iterator[Finding]:
    for name, place in (("here", folder), ("Hub cache", Path(os.environ.get("HF_HOME", "~/.cache/huggingface")))):
        free = free_bytes(place.expanduser())
        low = "; that is little, since a checkpoint of SD-1.5 takes 10 GB" if free < LOW_DISK_BYTES else ""
        yield Finding(f"{name}: {free / 1e9:.1f} GB free{low}")


def _environment() -> Iterator[Finding]:
    return (Finding(f"{name}={os.environ[name]}") for name in VARIABLES if name in os.environ)
