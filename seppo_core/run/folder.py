"""The folder of one run: its config, its origin and its checkpoints."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from seppo_core.config.loader import config_differences, load_config, read_values, resolved_yaml
from seppo_core.config.schema import Config
from seppo_core.io.atomic import remove_leftovers, save_text
from seppo_core.io.checked_json import read_checked, save_checked
from seppo_core.io.ledger import Ledger
from seppo_core.io.locks import LOCK
from seppo_core.io.rng import NEWEST
from seppo_core.io.versions import environment
from seppo_core.methods.reference_pool import ReferencePool
from seppo_core.models.fingerprint import difference
from seppo_core.run.checkpoint import load_policy, load_progress
from seppo_core.run.checkpoint_names import FOLDER as CHECKPOINTS
from seppo_core.run.checkpoint_names import POOL, checkpoint_name, checkpoints_in, strays_in, update_of
from seppo_core.run.history import append_line, read_lines

CONFIG, WINNERS = "config.yaml", "winners.json"

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
    "data.validation_cache",
    "loop.validate_every",
    "loop.validate_items",
    "loop.checkpoint_every",
    "loop.keep_checkpoints",
    "loop.keep_every",
    "loop.keep_best",
    "loop.micro_batch_size",
    "loop.sharded",
    "loop.context_parallel",
    "loop.offload_reference",
    "loop.offload_activations",
    "loop.gradient_checkpointing",
    "loop.deterministic",
    "loop.checkpointing_share",
    "loop.compile",
    "loop.attention",
    "optimizer.fused",
    "model.offload",
    "reference_samples.batch_size",
)
"""Keys that may differ on a resume: they decide how a run is computed, and change weights by rounding at most. After
running out of memory, these are the ones to lower."""


def open_run(folder: Path, config: Config, winners: str, accept: tuple[str, ...] = ()) -> Callable[[], None]:
    """Makes a run in `folder`, whose lock is held, or checks that the run there fits: the same config, winners and
    package version, and all the snapshots that it is going to draw.

    `winners` is the fingerprint of the cache. `config.yaml` is the resolved config; `environment.jsonl` gets a line of
    versions at every start. Raises ValueError, with the differences, if the folder belongs to another config, other
    winners or another version of this package; `accept` names the keys (or "winners", "version") that may differ.
    Returns what puts accepted changes down in the run, to be called once weights and checkpoint have loaded: a change
    that turns out not to fit them must leave the run as it was.
    """
    changes: Callable[[], None] = lambda: None  # noqa: E731
    here = environment()
    remove_leftovers(folder)
    if not holds_run(folder):
        _write_run(folder, config, winners)
    else:
        for told in (Ledger(folder).drop_if_damaged(), changed_config(folder)):
            if told is not None:
                print(told)
        found = _differences(folder, config, winners, here["seppo"])
        told = "; ".join(found.values())
        trained = checkpoints_in(folder / CHECKPOINTS)
        refused = [key for key in found if key not in accept]
        if trained and refused:
            raise ValueError(
                f"{folder} holds a run that began otherwise ({'; '.join(found[key] for key in refused)}); go on with "
                f"the old values, name another folder as `run`, or go on regardless with --accept_changes "
                f"{' '.join(found)}"
            )
        if trained:
            check_snapshots(folder, config, trained[-1], changed=told)
        if trained and found:
            changes = partial(_change, folder, config, winners, ("buffer",), f"goes on with changes ({told})")
        elif found:
            how = f"held no checkpoint yet and starts over with the new config ({told})"
            _change(folder, config, winners, ("pool", "buffer", "previews"), how)
    if not Ledger(folder).knows(folder / CONFIG):
        # of an earlier version, or of a start that was broken off right behind it
        Ledger(folder).record(folder / CONFIG)
    if strays := strays_in(folder / CHECKPOINTS):
        print(f"{folder / CHECKPOINTS} holds more than checkpoints; ignored: {', '.join(strays[:5])}")
    append_line(folder / "environment.jsonl", here)
    return changes


def changed_config(folder: Path) -> str | None:
    """Says so if a run's config.yaml is not as it was written; its keys are compared all the same."""
    problem = Ledger(folder).problem(folder / CONFIG)
    return None if problem is None else f"{folder / CONFIG} {problem}"


def _change(folder: Path, config: Config, winners: str, derived: tuple[str, ...], told: str) -> None:
    """Gives the run a new config, and removes what was `derived` from the old one."""
    for name in derived:
        shutil.rmtree(folder / name, ignore_errors=True)
    _write_run(folder, config, winners)
    print(f"{folder} {told}")


def holds_run(folder: Path) -> bool:
    """Whether `folder` holds a run; False if it is new, or holds only what a start leaves that was broken off at once.

    Raises ValueError if it holds other files.
    """
    if (folder / CONFIG).exists() and ((folder / WINNERS).exists() or checkpoints_in(folder / CHECKPOINTS)):
        return True
    entries = list(folder.iterdir()) if folder.is_dir() else []
    if all(_is_of_a_start(entry) for entry in entries):
        return False
    raise ValueError(
        f"{folder} is not empty and holds no run (no {CONFIG} with {WINNERS}); name another folder as `run`"
    )


def check_snapshots(folder: Path, config: Config, checkpoint: Path, changed: str = "") -> None:
    """Raises ValueError if a snapshot is gone that the run will draw as its reference after `checkpoint`.

    `changed` tells which changes of the config were accepted: with another strategy, for one, a run may draw what it
    never saved.
    """
    loop = config.loop
    if not config.holds_reference:
        return
    update = load_progress(checkpoint).update
    pool = run_pool(folder, config)
    for entry in pool.missing(update, loop.updates_per_iteration, loop.iterations):
        # an iteration begins with the policy of the checkpoint before it
        same = folder / CHECKPOINTS / checkpoint_name(entry * loop.updates_per_iteration)
        if same in checkpoints_in(folder / CHECKPOINTS):
            print(f"{pool.path(entry)} was lost or damaged and is written anew from {same.name}")
            pool.save(entry, load_policy(same))
    missing = pool.missing(update, loop.updates_per_iteration, loop.iterations)
    if not missing:
        return
    start = update // loop.updates_per_iteration
    first = next(iteration for iteration in range(start, loop.iterations) if pool.drawn(iteration) & set(missing))
    lost = min(pool.drawn(first) & set(missing))
    what = (
        f"{folder} cannot go on after {checkpoint.name}: iteration {first} draws the snapshot {pool.path(lost)} as its "
        "reference, which is missing or damaged"
        + (f", and {len(missing) - 1} more are missing" if len(missing) > 1 else "")
    )
    if changed:
        raise ValueError(
            f"{what}, for the run has not saved it under its old config ({changed}); go on with the old values, or "
            "name another folder as `run`"
        )
    earlier = [
        path.name
        for path in checkpoints_in(folder / CHECKPOINTS)
        if update_of(path) < update and not pool.missing(update_of(path), loop.updates_per_iteration, loop.iterations)
    ]
    back = f", move away the checkpoints after {earlier[-1]}, from which it goes on then," if earlier else ""
    raise ValueError(f"{what}; bring it back{back} or name another folder as `run`")


def run_pool(folder: Path, config: Config) -> ReferencePool:
    """The snapshots of the run in `folder`."""
    m, judged = config.method, config.loop.judge is not None
    # of a method without a reference nothing is drawn but what a judge scores
    strategy = m.strategy or ("latest" if judged else "initial")
    return ReferencePool(
        folder / POOL, strategy, config.seed, m.pool_window, m.sampled_from, Ledger(folder), config.draws or NEWEST,
        judged, m.snapshot_decay,
    )  # fmt: skip


def _differences(folder: Path, config: Config, winners: str, version: str) -> dict[str, str]:
    """How `config`, the winners and this package's version differ from those of the run, by the names to accept."""
    stored = with_draws(load_config(folder / CONFIG, type(config), warn=False), folder)
    found = {line.partition(":")[0]: line for line in config_differences(stored, config, ignore=FREE_KEYS)}
    trained_on = _fingerprint(folder / WINNERS)
    if trained_on is None:
        found["winners"] = f"winners: {folder / WINNERS} is gone or damaged, so that they cannot be compared"
    elif trained_on != winners:
        found["winners"] = f"winners: those in {config.data.cache} are not those that the run began with"
    starts = [line["seppo"] for line in read_lines(folder / "environment.jsonl") if "seppo" in line]
    if starts and starts[-1] != version:
        found["version"] = f"version: seppo {starts[-1]} -> {version}"
    return found


def _fingerprint(path: Path) -> str | None:
    """The fingerprint in a file that `open_run` wrote; None if it is missing or damaged."""
    try:
        return read_checked(path)["fingerprint"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _is_of_a_start(path: Path) -> bool:
    """Whether a start that was broken off before it had written the config left this entry."""
    if path.name == WINNERS:
        return _fingerprint(path) is not None
    return path.name == LOCK or any(path.match(f".{name}.*.tmp") for name in (WINNERS, CONFIG))


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
        found = read_checked(path)
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise ValueError("it holds no fingerprints")
        return found
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
    trained = bool(checkpoints_in(folder / CHECKPOINTS))
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
    save_checked(folder / WINNERS, {"fingerprint": winners})
    # last: it is what makes the folder a run
    with Ledger(folder).writing(folder / CONFIG):
        save_text(folder / CONFIG, resolved_yaml(config))
