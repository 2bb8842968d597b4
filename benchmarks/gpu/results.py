"""What `benchmarks.gpu.memory` leaves: names of the files, the newest result of each case, and their table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.experiments.speed.measuring import GIB
from benchmarks.experiments.speed.plain_run import slug
from seppo_core.report.text_table import markdown_table

KIND = "seppo-gpu-memory"
Record = dict[str, Any]


def form(one: Record) -> str:
    """How the update was done, in words."""
    way = "the plain way" if one["plain"] else "LoRA"
    way += f" on {one['quantize']}" if one["quantize"] else ""
    return way + (", offloaded base" if one["offload"] else "")


def about(one: Record) -> tuple[str, str, str]:
    """What makes two results two of the same case: the subject, the form and the device."""
    return f"{one['subject']}, {one['size']}, {one['precision']}", form(one), one["origin"].get("device") or "CPU"


def file_name(one: Record) -> str:
    """The case and the day."""
    return f"memory-{slug(' '.join(about(one)))}-{str(one['origin']['started'])[:10]}.json"


def newest(folder: Path) -> list[Record]:
    """The newest result of each case in a folder, by subject, form and device; what only the system counted is left
    out, for no allocator's peak is in it."""
    found: dict[tuple[str, str, str], Record] = {}
    for file in sorted(folder.glob("memory-*.json")):
        one = json.loads(file.read_text(encoding="utf-8"))
        if one["kind"] != KIND or "planned" not in one:
            continue
        kept = found.get(about(one))
        if kept is None or kept["origin"]["started"] < one["origin"]["started"]:
            found[about(one)] = one
    return [found[case] for case in sorted(found)]


def table(results: Sequence[Record]) -> list[str]:
    """GiB of each case beside what `plan` counts."""
    head = ["base", "form", "device", "plan (GiB)", "measured (GiB)", "measured / plan"]
    rows, last = [], ""
    for one in results:
        subject, way, device = about(one)
        rows.append([
            "" if subject == last else subject, way, device, f"{one['planned'] / GIB:.2f}",
            f"{one['measured'] / GIB:.2f}", f"{one['share']:.2f}",
        ])  # fmt: skip
        last = subject
    return markdown_table(head, rows)
