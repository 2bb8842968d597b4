"""Reads and writes the history of a run, `metrics.jsonl` and `events.jsonl`. Without torch."""

import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Literal

from seppo_core.io.disk_errors import explain_disk_errors

METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"

EventName = Literal[
    "started", "samples", "errors", "judged", "checkpoint", "unscored", "alarm", "stopped", "failed", "finished",
]  # fmt: skip


def read_metrics(folder: Path) -> list[dict]:
    """The metrics of a run folder, one dictionary per update; a line that a crash broke off is left out."""
    return [line for line in read_lines(folder / METRICS) if isinstance(line.get("update"), int)]


def read_events(folder: Path) -> list[dict]:
    """The events of a run folder, oldest first; `time` is in seconds since 1970."""
    return [line for line in read_lines(folder / EVENTS) if isinstance(line.get("event"), str)]


def update_lines(content: bytes) -> list[bytes]:
    """The lines of metrics.jsonl that are of updates; those of previews come when they were drawn, which may be after
    the checkpoint of their update."""
    return [line for line in content.splitlines(keepends=True) if not line.startswith(b'{"preview"')]


def as_recorded(folder: Path, update: int, lines: bytes) -> bool:
    """Whether `lines`, the `update_lines` up to the checkpoint after `update`, has the hash that the checkpoint's event
    holds; True if there is none, as in runs of earlier versions."""
    recorded = [event.get("metrics") for event in read_events(folder)
                if event["event"] == "checkpoint" and event.get("update") == update]  # fmt: skip
    return not recorded or recorded[-1] in (None, sha256(lines).hexdigest())


def read_lines(path: Path) -> list[dict]:
    """The JSON objects of a file, one a line. Incomplete lines are skipped: the end of a line that was
    being written, or the zeros that a power cut leaves."""
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return [entry for entry in found if isinstance(entry, dict)]


def add_event(folder: Path, name: EventName, **details: float | int | str) -> None:
    """Appends one line to `events.jsonl`. Unlike the metrics, they stay as they were when a run resumes."""
    append_line(folder / EVENTS, {"time": round(time.time(), 1), "event": name, **details})


def append_line(path: Path, entry: dict) -> None:
    """Appends one JSON object to a file of one a line, on a line of its own even if a kill or a full disk broke off the
    line before."""
    broken = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with explain_disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write("\n" * broken + json.dumps(entry, ensure_ascii=False) + "\n")
