"""The state of a run, read from its folder alone: while it runs or after it ended, on any machine. Without torch."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from seppo_core.cache.cut_captions import of_cache
from seppo_core.config.loader import read_values
from seppo_core.config.method import MethodConfig
from seppo_core.config.monitoring import HealthConfig
from seppo_core.config.training import LoopConfig
from seppo_core.io.ledger import Ledger
from seppo_core.io.locks import holder_of
from seppo_core.report.wording import counted
from seppo_core.run.checkpoint_names import FOLDER as CHECKPOINTS
from seppo_core.run.checkpoint_names import checkpoints_in
from seppo_core.run.eta import TimeLeft, clock
from seppo_core.run.health import Alarm, Health
from seppo_core.run.history import EVENTS, METRICS, as_recorded, read_events, read_metrics, update_lines
from seppo_core.run.previews import Previews, best_text, read_previews, score_text

LINES = 5
BUFFER, CANDIDATES, ERRORS = "buffer", "candidates", "errors"
"""Folder of an iteration's samples in that of the run, and in it those of samples that a judge scores and of the errors
of a reference that never moves."""
PAGE = "report.html"
"""The run's own page, in its folder."""
_NEEDED = {
    "model": {"base": str},
    "method": {},
    "tune": {"mode": str},
    "loop": {"iterations": int, "updates_per_iteration": int, "batch_size": int},
}
"""What is read of a run's config, and its type."""
SLOW = 0.05
"""Share of the time spent waiting for batches above which a cure is shown."""
Section = TypeVar("Section")


@dataclass(frozen=True)
class Status:
    """The state of a run. Times are seconds since 1970."""

    folder: Path
    what: str
    update: int
    total: int
    iteration: int
    iterations: int
    missing: int
    """Reference samples that the current iteration still has to generate; 0 if that is done or has not begun."""
    samples: int
    """Reference samples per iteration."""
    state: str
    """running, finished, stopped, failed, killed (nothing said that it ended) or not begun."""
    detail: str
    sign_of_life: float | None
    seconds_per_update: float | None
    pairs_per_second: float | None
    data_share: float | None
    """Share of the latest updates' time spent waiting for batches."""
    left: float | None
    checkpoints: tuple[str, ...]
    alarms: tuple[Alarm, ...]
    standing: tuple[Alarm, ...]
    last: tuple[dict, ...]
    held_out: dict | None
    """The newest line of metrics with an error on held-out items."""
    previews: Previews
    judged: str | None = None
    """What loop.judge says of the policy's samples; None without one."""
    damaged: tuple[str, ...] = ()
    """Files that are not as they were written."""
    cut: tuple[str, ...] = ()
    """A line for each limit of a tokenizer that cuts captions of the cache."""
    doing: str | None = None
    """What a run that is running does before its first update; None after it."""


def read_status(folder: Path) -> Status:
    """Reads the state of a run folder. Raises FileNotFoundError if it is not one."""
    config = _read_config(folder)
    loop, sampled = config["loop"], config.get("reference_samples", {})
    health, method = _section(HealthConfig, config.get("health")), _method(config["method"])
    size, per_iteration = loop["batch_size"], loop["updates_per_iteration"]
    total = loop["iterations"] * per_iteration
    judged = _section(LoopConfig, loop)
    samples = judged.generated(method.spec, sampled.get("uses", 1))
    metrics, events, previews = read_metrics(folder), read_events(folder), read_previews(folder)
    update = metrics[-1]["update"] if metrics else 0
    starts = [event for event in events if event["event"] == "started"]
    pace = TimeLeft(total, per_iteration, samples, starts[-1].get("drawn") if starts else None)
    for line in metrics:
        pace.update(line["seconds"], line.get("data_seconds"))
    for event in events:
        if event["event"] in ("samples", "errors", "judged"):
            pace.samples(event["count"] if event["event"] == "samples" else 0, event["seconds"])
    now, candidates = min(update // per_iteration, loop["iterations"] - 1), judged.candidates(method.spec)
    samples = pace.samples_of(range(now, now + 1))
    missing = _missing(folder / BUFFER, now, samples - candidates, sampled)
    if candidates:
        # they come first
        missing = _missing(folder / BUFFER / CANDIDATES, now, candidates, sampled) or missing
    state, detail = _state(folder, events, update, total)
    watched = Health.of(health, method, size, metrics)
    per_update = pace.seconds_per_update
    return Status(
        folder=folder,
        what=f"{method.name}{_variant(method)} on {config['model']['base']}, {config['tune']['mode']}",
        update=update,
        total=total,
        iteration=min(update // per_iteration + 1, loop["iterations"]),
        iterations=loop["iterations"],
        missing=missing if update % per_iteration == 0 and update < total else 0,
        samples=samples,
        state=state,
        detail=detail,
        sign_of_life=_sign_of_life(folder),
        seconds_per_update=per_update,
        pairs_per_second=size / per_update if per_update else None,
        data_share=pace.data_share,
        left=pace.left(update, missing),
        checkpoints=tuple(path.name for path in checkpoints_in(folder / CHECKPOINTS)),
        alarms=tuple(watched.alarms),
        standing=tuple(watched.standing),
        last=tuple(metrics[-LINES:]),
        held_out=next((line for line in reversed(metrics) if line.get("held_out_error") is not None), None),
        previews=previews,
        judged=None if loop.get("judge") is None else _judged_text(metrics),
        damaged=(*_damaged(folder, events), *previews.complaints()),
        cut=tuple(of_cache(Path(config.get("data", {}).get("cache", "")))),
        doing=None if state != "running" or update else _doing(config, events, previews, samples),
    )


def status_text(status: Status, now: float | None = None) -> str:
    """The state as text, one fact a line."""
    text = "\n".join(f"{name:11} {value}" for name, value in status_rows(status, now))
    for alarm in status.standing:
        text += f"\n  {alarm}"
    for line in status.damaged:
        text += f"\ndamaged     {line}"
    if status.last:
        text += "\n\n" + _table(status.last)
    return text


def status_rows(status: Status, now: float | None = None) -> list[tuple[str, str]]:
    """The state as facts with their names."""
    now = time.time() if now is None else now
    share = status.update / status.total
    rows = [
        ("run", f"{status.folder}: {status.what}"),
        ("state", f"{status.state}{f': {status.detail}' if status.detail else ''}"),
        ("done", f"update {status.update} of {status.total} ({share:.0%}), iteration {status.iteration} of "
                 f"{status.iterations}"),
    ]  # fmt: skip
    if status.doing is not None:
        rows.append(("doing", status.doing))
    if status.missing:
        what = "reference samples" if status.judged is None else "samples of this iteration"
        rows.append(("sampling", f"{status.samples - status.missing} of {status.samples} {what}"))
    if status.sign_of_life is not None:
        rows.append(("last sign", f"{clock(max(0, now - status.sign_of_life))} ago"))
    if status.seconds_per_update is not None:
        rows.append(
            ("rate", f"{status.seconds_per_update:.3g} s an update, {status.pairs_per_second:.3g} pairs a second")
        )
    if status.data_share is not None:
        cure = "; raise data.prefetch, or put data.cache on a faster disk" if status.data_share > SLOW else ""
        rows.append(("data", f"{status.data_share:.1%} of it is waiting for batches{cure}"))
    if status.left:
        if status.state == "running":
            end = datetime.fromtimestamp(now + status.left).astimezone()
            rows.append(("ends", f"in {clock(status.left)}, about {end:%Y-%m-%d %H:%M}"))
        else:
            rows.append(("left", f"{clock(status.left)} once it runs again: the same train command goes on"))
    if status.held_out is not None:
        rows.append(("held out", _held_out_text(status.held_out)))
    rows += _score_rows(status.previews)
    if status.judged is not None:
        rows.append(("judge", status.judged))
    rows += [("captions", line) for line in status.cut]
    newest = status.checkpoints[-1] if status.checkpoints else "none yet"
    rows.append(("checkpoint", newest + (f" ({len(status.checkpoints)} kept)" if status.checkpoints else "")))
    rows.append(("health", _health_text(status)))
    page = status.folder / PAGE
    if page.is_file():
        rows.append(("page", str(page)))
    elif status.previews.all:
        rows.append(("page", f"{page} is gone; the next preview writes it anew, or `status --page` now"))
    return rows


def _score_rows(previews: Previews) -> list[tuple[str, str]]:
    """The newest scores, and those of the best checkpoint that is there."""
    judged = [one for one in previews.all if one.judge is not None]
    if not judged:
        return []
    rows = [("score", score_text(judged[-1], previews.start))]
    best, there = previews.best(kept_alone=False), previews.best()
    if best is None:
        return rows
    told = f"{best_text(best, previews)}"
    if best is not there:
        told += ", whose checkpoint is not kept (loop.keep_best)"
    return [*rows, ("best", told)]


def _judged_text(metrics: list[dict]) -> str:
    scored = [line for line in metrics if line.get("judge_score") is not None]
    if not scored:
        return "nothing is scored yet"
    first, last = scored[0], scored[-1]
    told = f"mean score {last['judge_score']:.4g} of the samples of iteration {last['iteration'] + 1}"
    return told if first["iteration"] == last["iteration"] else f"{told}, {first['judge_score']:.4g} of the first"


def _held_out_text(line: dict) -> str:
    error, start = line["held_out_error"], line["held_out_start"]
    told = f"winner error {error:.4g} after update {line['update']}, {error / start - 1:+.1%} against the base's"
    if line.get("held_out_accuracy") is not None:
        told += f"; {line['held_out_accuracy']:.0%} of the items prefer the right side more than it"
    return told if line.get("held_out_margin") is None else f"{told}, margin {line['held_out_margin']:.3g}"


def _health_text(status: Status) -> str:
    if status.standing:
        return f"{', '.join(alarm.gate for alarm in status.standing)} out of bounds:"
    if status.alarms:
        return "well now; earlier: " + ", ".join(f"{alarm.gate} at update {alarm.update}" for alarm in status.alarms)
    return "no health warnings" if status.update else "nothing to go by yet"


def _table(lines: tuple[dict, ...]) -> str:
    names = [
        name
        for name in ("update", "loss", "winner_error", "margin", "share_s_plus", "grad_norm", "lr", "seconds")
        if any(name in line for line in lines)
    ]
    cells = [names, *([_cell(line.get(name)) for name in names] for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def _cell(value: float | int | None) -> str:
    return "not finite" if value is None else str(value) if isinstance(value, int) else f"{value:.4g}"


def _variant(method: MethodConfig) -> str:
    """How the method differs from the paper's."""
    return "" if method.pool_window is None else f" that forgets all but the newest {method.pool_window} snapshots"


def _damaged(folder: Path, events: list[dict]) -> Iterator[str]:
    try:
        if (problem := Ledger(folder).problem(folder / "config.yaml")) is not None:
            yield f"{folder / 'config.yaml'} {problem}"
    except ValueError as error:
        yield str(error)
    saved = [event["update"] for event in events if event["event"] == "checkpoint" and "update" in event]
    path = folder / METRICS
    lines = update_lines(path.read_bytes()) if path.exists() else []
    if lines and not any(event["event"] == "started" for event in events):
        yield f"{folder / EVENTS} is gone or has lost its lines, so that nobody can tell how the run ended"
    if saved and not as_recorded(folder, saved[-1], b"".join(lines[: saved[-1]])):
        yield f"{path} has another content than was written up to update {saved[-1]}"


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no run (no config.yaml); name the folder that `run` names in a config")
    values = read_values(path)
    for section, keys in _NEEDED.items():
        part = values.get(section)
        lost = [] if isinstance(part, dict) else [section]
        lost = lost or [f"{section}.{key}" for key, kind in keys.items() if not isinstance(part.get(key), kind)]
        if lost:
            raise ValueError(f"{path} is damaged: it has no {lost[0]}; bring back the file that `train` wrote")
    return values


def _section(schema: type[Section], values: dict | None) -> Section:
    """A section of the config, by whichever version it was written: keys that no longer exist are ignored."""
    known = {field.name for field in fields(schema)}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in (values or {}).items()}
    return schema(**{name: value for name, value in given.items() if name in known and value is not None})


def _method(values: dict) -> MethodConfig:
    return _section(MethodConfig.variants()[values.get("name", MethodConfig.chosen())], values)


def _missing(buffer: Path, iteration: int, samples: int, sampled: dict) -> int:
    found = list(buffer.glob(f"iteration-{iteration:04d}-by-*"))
    if not samples or not found:
        return 0
    chunk = int(found[0].name.rpartition("-")[2]) if sampled else 1
    return max(0, samples - chunk * len(list(found[0].glob("samples-*.safetensors"))))


def _state(folder: Path, events: list[dict], update: int, total: int) -> tuple[str, str]:
    holder = holder_of(folder)
    last = next((event for event in reversed(events) if event["event"] in _ENDS or event["event"] == "started"), None)
    if holder is not None:
        return "running", holder
    if update >= total and (last is None or last["event"] in ("finished", "started")):
        return "finished", ""
    if last is None:
        return ("stopped", "") if update else ("not begun", "")
    if last["event"] == "started":
        return "killed", "the process is gone and said nothing; the same train command goes on"
    return _ENDS[last["event"]], str(last.get("why", ""))


_ENDS = {"finished": "finished", "stopped": "stopped", "failed": "failed"}


def _doing(config: dict[str, Any], events: list[dict], previews: Previews, samples: int) -> str:
    """What comes before the first update, as far as the folder does not show it done."""
    begun = next((event["event"] for event in reversed(events) if event["event"] in (*_ENDS, "started")), None)
    preview = config.get("preview") or {}
    prompts = preview.get("prompts") or ()
    if begun != "started":
        return "loading base and data"
    if prompts and previews.at(0) is None:
        return f"drawing the preview of the start: {counted(len(prompts), 'prompt')}"
    if samples and not any(event["event"] in ("samples", "judged") for event in events):
        return f"drawing the {samples} samples of the first iteration"
    return "computing the first update"


def _sign_of_life(folder: Path) -> float | None:
    """The time at which the run last wrote anything; None if it never did."""
    places = [folder / METRICS, folder / "events.jsonl", folder / "checkpoints", *(folder / "buffer").glob("*")]
    times = [path.stat().st_mtime for path in places if path.exists()]
    return max(times) if times else None
