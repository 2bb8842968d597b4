"""The folder of one run: its config, where it came from, and which checkpoint is meant."""

import json
import platform
import shutil
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from seppo_core.checkpoint import CheckpointFolder
from seppo_core.config import Config
from seppo_core.config_file import config_differences, load_config, resolved_yaml
from seppo_core.files import save_text

LIBRARIES = ("seppo", "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "numpy", "xformers")

FREE_KEYS = (
    "run",
    "preview",
    "data.source",
    "data.cache",
    "data.encode_batch_size",
    "loop.checkpoint_every",
    "loop.keep_checkpoints",
    "loop.micro_batch_size",
    "loop.gradient_checkpointing",
    "loop.attention",
    "reference_samples.batch_size",
)
"""Keys that may differ on a resume: they say how, not what, and move weights by rounding at most. After a run that was
out of memory, these are what can be lowered."""


def open_run(folder: Path, config: Config, winners: str) -> None:
    """Makes a run folder, or finds it made by this very config on the winners of this fingerprint.

    `config.yaml` is the resolved config, `environment.jsonl` gets a line of versions at every start. ValueError, with
    the differences, where the folder belongs to another config or other winners; nothing is overwritten.
    """
    path = folder / "config.yaml"
    if path.exists():
        stored = load_config(path, type(config))
        differences = config_differences(stored, config, ignore=FREE_KEYS)
        trained_on = json.loads((folder / "winners.json").read_text(encoding="utf-8"))["fingerprint"]
        if trained_on != winners:
            differences.append(f"the winners in {config.data.cache} are not those that the run began with")
        if differences and not CheckpointFolder(folder / "checkpoints").list():
            # nothing is trained yet: what lies here was derived from the old config
            for derived in ("pool", "buffer", "previews"):
                shutil.rmtree(folder / derived, ignore_errors=True)
            _write_run(folder, config, winners)
            print(f"{folder} held no checkpoint yet and starts over with the new config ({'; '.join(differences)})")
        elif differences:
            raise ValueError(
                f"{folder} holds a run with another config ({'; '.join(differences)}); go on with the old values, or "
                "name another folder as `run`"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no run (no config.yaml); name another folder as `run`")
    else:
        _write_run(folder, config, winners)
    with (folder / "environment.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(environment()) + "\n")


def _write_run(folder: Path, config: Config, winners: str) -> None:
    save_text(folder / "winners.json", json.dumps({"fingerprint": winners}) + "\n")
    # last: it is what makes the folder a run
    save_text(folder / "config.yaml", resolved_yaml(config))


def environment() -> dict[str, str | None]:
    """When, on what and with which versions: what a report must say."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = None
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "commit": git_commit(),
        **found,
    }


def git_commit() -> str | None:
    """Commit of the source tree this package runs from, with "-dirty" where it was changed; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def find_checkpoint(folder: Path, wanted: str) -> Path | None:
    """Folder of the checkpoint called `wanted`: "latest", a number of updates, a path, or "base" (None).

    FileNotFoundError, with those that are there, where there is none.
    """
    if wanted == "base":
        return None
    checkpoints = CheckpointFolder(folder / "checkpoints")
    there = {path.name: path for path in checkpoints.list()}
    if not there and not Path(wanted).is_dir():
        raise FileNotFoundError(f"{folder} holds no checkpoint yet; run train first")
    if wanted == "latest":
        return checkpoints.latest()
    name = f"update-{int(wanted):06d}" if wanted.isdecimal() else wanted
    if name in there:
        return there[name]
    if (Path(wanted) / "policy.safetensors").is_file():
        return Path(wanted)
    raise FileNotFoundError(f"{folder} holds no checkpoint {wanted!r}; it holds {', '.join(there)}")
