"""What an issue report asks for: versions, devices, attention back ends, what is missing, the disk.

Prints no tokens and nothing of the network. Everything that may be broken is imported late and one by one, so that a
broken installation is described rather than met.
"""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from seppo_core.io.space import free_bytes

CORE = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "numpy", "einops", "tyro", "av")
EXTRAS = {
    "gpu": ("xformers", "bitsandbytes"),
    "data": ("datasets", "webdataset"),
    "bench": ("ftfy", "scipy"),
}
ALONE = {
    "decord": "reads clips about 1.5 times as fast; PyAV reads them where it is missing",
    "wandb": "needed for log.wandb",
    "tensorboard": "metrics go there",
}
VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "HF_HOME", "WORLD_SIZE", "RANK", "ACCELERATE_USE_CPU",
    "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "NCCL_DEBUG", "WANDB_MODE", "SEPPO_TRACEBACK",
)  # fmt: skip
"""Environment variables that change how a run goes. None of them is a secret."""
ROOM = 20e9


@dataclass(frozen=True)
class Finding:
    """One line of the report. `bad` is what keeps the packages from working, `note` what a reader should know."""

    name: str
    value: str
    bad: str | None = None
    note: str | None = None


Section = tuple[str, list[Finding]]


def doctor(folder: Path) -> int:
    """Prints the report; the exit status, 1 if something must be mended."""
    sections = diagnose(folder)
    print(report(sections))
    return 0 if healthy(sections) else 1


def diagnose(folder: Path) -> list[Section]:
    """Everything about this machine; `folder` is where runs would be written."""
    sections: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("Versions", _versions),
        ("Machine", _machine),
        ("Devices", _devices),
        ("Attention", _attention),
        ("Extras", _extras),
        ("Video", _video),
        ("Disk", lambda: _disk(folder)),
        ("Environment", _environment),
    ]
    return [(title, _guarded(title, section)) for title, section in sections]


def report(sections: list[Section]) -> str:
    """Markdown to paste into an issue; what is wrong comes last, so that it is on the screen."""
    lines = []
    for title, findings in sections:
        if findings:
            width = max(len(finding.name) for finding in findings)
            lines += [f"{title}:", *(f"    {finding.name:{width}}  {finding.value}" for finding in findings), ""]
    bad = [finding for _, findings in sections for finding in findings if finding.bad]
    notes = [finding for _, findings in sections for finding in findings if finding.note]
    lines += [f"Wrong: {finding.name}: {finding.bad}" for finding in bad]
    lines += [f"Note: {finding.name}: {finding.note}" for finding in notes]
    if not bad:
        lines.append("Nothing is wrong that can be seen from here.")
    return "\n".join(lines)


def healthy(sections: list[Section]) -> bool:
    return not any(finding.bad for _, findings in sections for finding in findings)


def _guarded(title: str, section: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return section()
    except Exception as error:
        # the doctor describes a broken installation, whatever it raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return [Finding(title.lower(), "cannot be told", bad=reason)]


def _versions() -> list[Finding]:
    from seppo_core.io.versions import git_commit

    found = [
        Finding("seppo", f"{version('seppo')}{f' at {commit}' if (commit := git_commit()) else ''}"),
        Finding("python", platform.python_version()),
    ]
    needed = _requirements()
    for name in CORE:
        try:
            has = version(name)
        except PackageNotFoundError:
            found.append(Finding(name, "missing", bad=f"pip install '{needed.get(name, name)}'"))
            continue
        asked = needed.get(name)
        fits = asked is None or asked.specifier.contains(has, prereleases=True)
        found.append(Finding(name, has, bad=None if fits else f"{has} is installed, {asked} is needed"))
    if find_spec("torchvision") is not None:
        found.append(_torchvision())
    return found


def _torchvision() -> Finding:
    has = version("torchvision")
    try:
        import torchvision  # noqa: F401
    except Exception as error:
        return Finding(
            "torchvision", has,
            bad=f"does not fit this torch ({type(error).__name__}) and takes diffusers with it: pip uninstall it",
        )  # fmt: skip
    return Finding("torchvision", has)


def _machine() -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [
        Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Finding("cores", str(cores)),
    ]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(Finding("memory", _size(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))))
    return found


def _devices() -> list[Finding]:
    import torch

    found = [Finding("built for", f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone")]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        capability = f"{properties.major}.{properties.minor}"
        dtypes = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        found.append(
            Finding(f"cuda:{index}", f"{properties.name}, {_size(free)} of {_size(total)} free, {capability}, {dtypes}")
        )
    if torch.version.cuda and not torch.cuda.is_available():
        found.append(Finding("cuda", "not available", note="torch is built for CUDA and sees no device or no driver"))
    if torch.backends.mps.is_available():
        found.append(Finding("mps", "available"))
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        found.append(Finding("cpu", f"{torch.get_num_threads()} threads; nothing faster is here"))
    return found


def _attention() -> list[Finding]:
    import torch

    cuda = torch.backends.cuda
    switches = {
        "flash": cuda.flash_sdp_enabled(),
        "memory efficient": cuda.mem_efficient_sdp_enabled(),
        "cudnn": cuda.cudnn_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
    }
    on = ", ".join(name for name, enabled in switches.items() if enabled)
    usable = on if torch.cuda.is_available() else "flash and math, the CPU's own"
    found = [Finding("sdpa", f"loop.attention: sdpa, by {usable}")]
    if find_spec("xformers") is None:
        found.append(Finding("xformers", "not installed"))
    elif not torch.cuda.is_available():
        found.append(Finding("xformers", f"{version('xformers')}, of no use without CUDA"))
    else:
        found.append(Finding("xformers", f"{version('xformers')}, loop.attention: xformers"))
    return found


def _extras() -> list[Finding]:
    found = []
    for extra, names in EXTRAS.items():
        missing = [name for name in names if find_spec(name) is None]
        value = f'without {", ".join(missing)}: pip install "seppo[{extra}]"' if missing else "complete"
        found.append(Finding(extra, value))
    for name, use in ALONE.items():
        found.append(Finding(name, version(name) if find_spec(name) else f"not installed; {use}"))
    return found


def _video() -> list[Finding]:
    import av

    libraries = ", ".join(f"{name} {'.'.join(map(str, numbers))}" for name, numbers in av.library_versions.items())
    wanted = ("libx264", "libx264rgb", "ffv1")
    missing = [name for name in wanted if name not in av.codecs_available]
    found = [
        Finding("PyAV's ffmpeg", libraries),
        Finding(
            "encoders", ", ".join(name for name in wanted if name not in missing) or "none",
            bad=f"PyAV cannot write {', '.join(missing)}; clips cannot be saved" if missing else None,
        ),
        Finding("ffmpeg on the path", shutil.which("ffmpeg") or "none; not needed"),
    ]  # fmt: skip
    if find_spec("decord") is not None:
        try:
            import decord  # noqa: F401
        except Exception as error:
            found.append(Finding("decord", version("decord"), note=f"does not load ({type(error).__name__})"))
    return found


def _disk(folder: Path) -> list[Finding]:
    found = []
    hub = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    for name, place in (("here", folder.absolute()), ("hub cache", hub)):
        there = next(path for path in (place, *place.parents) if path.exists())
        free = free_bytes(place)
        writable = os.access(there, os.W_OK)
        value = f"{_size(free)} free{'' if writable else ', read-only'}"
        little = f"{_size(free)} is little: a checkpoint of SD-1.5 takes 10 GB" if free < ROOM else None
        found.append(Finding(name, value, note=little if writable else "cannot be written to"))
    return found


def _environment() -> list[Finding]:
    return [Finding(name, os.environ[name]) for name in VARIABLES if name in os.environ]


def _requirements() -> dict:
    from packaging.requirements import Requirement

    # the extras' own have a marker that names them
    found = [Requirement(text) for text in requires("seppo") or []]
    return {r.name: r for r in found if r.marker is None or "extra" not in str(r.marker)}


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
