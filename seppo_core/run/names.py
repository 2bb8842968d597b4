"""What a word on the command line calls: a run by its folder or its config, a config by its file or its run."""

from pathlib import Path
from typing import NamedTuple

from seppo_core.config.loader import read_values

CONFIG = "config.yaml"
"""The config in a run's folder, with every default."""
_BEGUN = "winners.json"
"""What stands beside it once `train` has begun."""


class ConfigFile(NamedTuple):
    """A config, and the run's folder if that has moved since it was written."""

    path: str
    moved_to: str | None = None


def run_of(name: str | Path) -> Path:
    """The folder of the run that a folder or a config calls; any other name is given back as it is.

    FileNotFoundError for a config whose run has not begun, ValueError for a YAML file that names none.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return path
    if path.name == CONFIG and (path.parent / _BEGUN).is_file():
        return path.parent
    run = read_values(path).get("run")
    if not isinstance(run, str):
        raise ValueError(f"{path} names no run (it has no key `run`); name the folder of one")
    if not (Path(run) / CONFIG).is_file():
        raise FileNotFoundError(f"{path} names the run {run}, which has not begun; `train {path}` begins it")
    return Path(run)


def config_of(name: str) -> ConfigFile:
    """The config that a file, or the folder of a run, calls; any other name is given back as it is."""
    path = Path(name) / CONFIG
    if not path.is_file():
        return ConfigFile(name)
    run = read_values(path).get("run")
    here = isinstance(run, str) and Path(run).absolute() == path.parent.absolute()
    return ConfigFile(str(path), None if here else name)
