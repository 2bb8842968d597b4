"""The folder of one run: its config, its origin and its checkpoints."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from seppo_core.config.loader import config_differences, load_config, read_values, resolved_yaml
from seppo_core.config.schema import Config
from seppo_core.io.atomic import save_text
from seppo_core.io.checked_json import read_checked, save_checked
from seppo_core.io.locks import LOCK, holder_of, in_use
from seppo_core.io.rng import NEWEST
from seppo_core.io.versions import environment
from seppo_core.models.fingerprint import difference
from seppo_core.run.checkpoint import CheckpointFolder
from seppo_core.run.history import read_lines

FREE_KEYS = (
    "run",
    "preview",
    "health",
    "log",
    "data.source",
    "data.cache",
    "data.encode_batch_size",
    "data.workers",
    "data.prefetch",
    "loop.checkpoint_every",
    "loop.keep_checkpoints",
    "loop.micro_batch_size",
    "loop.sharded",
    "loop.offload_reference",
    "loop.gradient_checkpointing",
    "loop.attention",
    "reference_samples.batch_size",
)
"""Keys that may differ on a resume: they decide how a run is computed, and change weights by rounding at most. After
running out of memory, these are the ones to lower."""


def open_run(folder: Path, config: Config, winners: str, accept: tuple[str, ...] = ()) -> None:
    """Makes a run folder, or checks that an existing one has the same config, winners and package version.

    `winners` is the fingerprint of the cache. `config.yaml` is the resolved config; `environment.jsonl` gets a line of
    versions at every start. Raises ValueError, with the differences, if the folder belongs to another config, other
    winners or another version of this package; `accept` names the keys (or "winners", "version") that may differ and
    are then changed in the run. Nothing else is overwritten.
    """
    path = folder / "config.yaml"
    holder = holder_of(folder)
    if holder is not None:
        raise ValueError(in_use(folder, holder))
    here = environment()
    if path.exists():
        stored = with_draws(load_config(path, type(config), warn=False), folder)
        found = {line.partition(":")[0]: line for line in config_differences(stored, config, ignore=FREE_KEYS)}
        trained_on = json.loads((folder / "winners.json").read_text(encoding="utf-8"))["fingerprint"]
        if trained_on != winners:
            found["winners"] = f"winners: those in {config.data.cache} are not those that the run began with"
        before = next((line["seppo"] for line in reversed(read_lines(folder / "environment.jsonl"))), here["seppo"])
        if before != here["seppo"]:
            found["version"] = f"version: seppo {before} -> {here['seppo']}"
        differences = list(found.values())
        if differences and not CheckpointFolder(folder / "checkpoints").list():
            # nothing is trained yet: what lies here was derived from the old config
            for derived in ("pool", "buffer", "previews"):
                shutil.rmtree(folder / derived, ignore_errors=True)
            _write_run(folder, config, winners)
            print(f"{folder} held no checkpoint yet and starts over with the new config ({'; '.join(differences)})")
        elif refused := [key for key in found if key not in accept]:
            raise ValueError(
                f"{folder} holds a run that began otherwise ({'; '.join(found[key] for key in refused)}); go on with "
                f"the old values, name another folder as `run`, or go on regardless with --accept_changes "
                f"{' '.join(found)}"
            )
        elif found:
            # samples of the current iteration were made as the old config says
            shutil.rmtree(folder / "buffer", ignore_errors=True)
            _write_run(folder, config, winners)
            print(f"{folder} goes on with changes ({'; '.join(differences)})")
    elif folder.exists() and any(entry.name != LOCK for entry in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no run (no config.yaml); name another folder as `run`")
    else:
        _write_run(folder, config, winners)
    with (folder / "environment.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(here) + "\n")


def with_draws(config: Config, folder: Path) -> Config:
    """`config` with the version of its draws: its own, else that of the run in `folder`, else the newest."""
    if config.draws is not None:
        return config
    path = folder / "config.yaml"
    return replace(config, draws=read_values(path).get("draws") or 1 if path.exists() else NEWEST)


def recorded_models(folder: Path) -> dict[str, str]:
    """The fingerprints that the run in `folder` was begun on: "fingerprint" of the denoiser and "frozen" of VAE, text
    encoder and tokenizer, as far as they are recorded. ValueError if the file is damaged."""
    path = folder / "model.json"
    if not path.exists():
        return {}
    try:
        return read_checked(path)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete it if model.base is the one that the run began on, and the next "
            "train writes it anew"
        ) from error


def check_model(folder: Path, denoiser: str, frozen: str, accept: tuple[str, ...] = ()) -> None:
    """Checks that a run's base is the one that it began on, by the fingerprints of its denoiser and its frozen parts.

    A path may hold other weights than before, and a LoRA or a reference pool on them would be another model. Raises
    ValueError if they differ, unless `accept` names "model", or nothing is trained yet: what was derived from the old
    base is then removed.
    """
    recorded = recorded_models(folder)
    trained = bool(CheckpointFolder(folder / "checkpoints").list())
    for key, now in (("fingerprint", denoiser), ("frozen", frozen)):
        before = recorded.get(key, now)
        if before == now:
            continue
        if trained and "model" not in accept:
            raise ValueError(
                f"{folder} was begun on other weights than model.base holds now ({difference(before, now)}); bring the "
                "old base back, name another folder as `run`, or go on regardless with --accept_changes model"
            )
        # what lies here was derived from the old base, but for the snapshots of a run that goes on
        for derived in ("buffer",) if trained else ("pool", "buffer", "previews"):
            shutil.rmtree(folder / derived, ignore_errors=True)


def record_model(folder: Path, denoiser: str, frozen: str) -> None:
    """Notes the fingerprints that `check_model` compares with."""
    found = {"fingerprint": denoiser, "frozen": frozen}
    if recorded_models(folder) != found:
        save_checked(folder / "model.json", found)


def _write_run(folder: Path, config: Config, winners: str) -> None:
    save_text(folder / "winners.json", json.dumps({"fingerprint": winners}) + "\n")
    # last: it is what makes the folder a run
    save_text(folder / "config.yaml", resolved_yaml(config))


def find_checkpoint(folder: Path, wanted: str) -> Path | None:
    """The folder of the checkpoint `wanted`: "latest", a number of updates, a path, or "base" (None).

    Raises FileNotFoundError, with the checkpoints that exist, if there is none.
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
