"""The published tables, and beside each row what reports on this machine measured for it."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evaluation.paper.published import DAGGER, MARK, TABLES, Heading, PublishedTable, as_the_paper
from benchmarks.evaluation.report.text import interval_text, read_report
from seppo_core.report.text_table import latex_table, latex_text, markdown_table

MARK_NOTE = "‡ measured under another protocol than the paper's, as named in the row: not comparable with the others."
REPORTS = Path("runs/quality")
EXTRA = {"hps_v2.0": ("hps_v2.1", "HPS v2.1")}
"""Columns that are shown as well if they were measured: the values marked † are most likely of this version."""


@dataclass(frozen=True)
class Measured:
    """One model's values in one report, heading by heading; None if the report has no value."""

    row: str
    """Key of the published row, empty for a model that the paper has no row for."""
    model: str
    label: str
    """Protocol, prompt set and whatever was changed."""
    marked: bool
    """Whether it was measured otherwise than the paper."""
    cells: tuple[dict | None, ...]
    extra: tuple[tuple[str, dict], ...] = ()


def main(argv: Sequence[str]) -> int:
    """The command `table<number>`; `argv` is the number and the options. Exit status 2 for a mistake in the options."""
    number = int(argv[0])
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks table{number}",
        description=f"{TABLES[number].title}: the published table, and what was measured here.",
        epilog="A model called by the key of a row (" + ", ".join(row.key for row in TABLES[number].rows) + ") is put "
        "beside it; --rows puts others there.",
    )
    parser.add_argument("--reports", nargs="+", type=Path, metavar="FOLDER", help=f"default: all under {REPORTS}")
    parser.add_argument("--rows", nargs="+", default=[], metavar="KEY=MODEL", help="which model is which row")
    parser.add_argument("--format", choices=["markdown", "latex", "json"], default="markdown")
    asked = parser.parse_args(list(argv[1:]))
    table = TABLES[number]
    try:
        keys = parse_rows(asked.rows, table)
        paths = asked.reports or sorted(path.parent for path in REPORTS.glob("**/report.json"))
        measured = [item for path in paths for item in measure(read_report(path), table, keys)]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    writers = {"markdown": markdown, "latex": latex, "json": as_json}
    print(writers[asked.format](table, measured), end="")
    return 0


def parse_rows(given: Sequence[str], table: PublishedTable) -> dict[str, str]:
    """{model: key of its row}; ValueError for another form or a key that the table does not have."""
    known = [row.key for row in table.rows]
    keys = {}
    for item in given:
        key, equals, model = item.partition("=")
        if not equals or not model or key not in known:
            raise ValueError(f"--rows {item!r} should be KEY=MODEL with a key of {', '.join(known)}")
        keys[model] = key
    return keys


def measure(report: dict, table: PublishedTable, keys: dict[str, str]) -> list[Measured]:
    """The rows that a report adds to a table; none if it has other prompts or other metrics."""
    scores = {(row["model"], row["column"]): row for row in report["scores"] if "mean" in row}
    prompts = report["prompts"]["name"]
    found = []
    for model in report["models"]:
        name = model["name"]
        cells = tuple(
            scores.get((name, heading.column)) if heading.prompts == prompts else None for heading in table.headings
        )
        if all(cell is None for cell in cells):
            continue
        key = keys.get(name, name.lower() if name.lower() in [row.key for row in table.rows] else "")
        extra = tuple(
            (label, score)
            for heading in table.headings
            if heading.prompts == prompts and heading.column in EXTRA
            for column, label in [EXTRA[heading.column]]
            if (score := scores.get((name, column))) is not None
        )
        found.append(Measured(key, name, report["label"], not as_the_paper(report, table), cells, extra))
    return found


def markdown(table: PublishedTable, measured: Sequence[Measured]) -> str:
    """Published rows, each followed by what was measured for it, then models that the paper has no row for."""
    headings = ["", *(f"{h.label}{' ↓' if h.better < 0 else ''}" for h in table.headings)]
    rows = []
    for row in table.rows:
        rows.append([row.label, *_published(table, row)])
        rows += [_markdown_row(item, table) for item in measured if item.row == row.key]
    rows += [_markdown_row(item, table) for item in measured if not item.row]
    lines = [f"Table {table.number}: {table.title}", "", *markdown_table(headings, rows), "", *_notes(table, measured)]
    return "\n".join(lines) + "\n"


def latex(table: PublishedTable, measured: Sequence[Measured]) -> str:
    r"""The table as a LaTeX `tabular` for \usepackage{booktabs}."""
    headings = ["", *(latex_text(h.label + (" ↓" if h.better < 0 else "")) for h in table.headings)]
    published = [[latex_text(text) for text in (row.label, *_published(table, row))] for row in table.rows]
    order = [row.key for row in table.rows]
    ours = sorted(measured, key=lambda item: order.index(item.row) if item.row else 99)
    beside = [[latex_text(text) for text in (_name(item), *_measured_cells(item, table))] for item in ours]
    lines = latex_table(headings, [published, beside] if beside else [published])
    return "\n".join([*lines, *(f"% {note}" for note in _notes(table, measured))]) + "\n"


def as_json(table: PublishedTable, measured: Sequence[Measured]) -> str:
    """The table as JSON, for programs."""
    content = {
        "table": table.number,
        "title": table.title,
        "columns": [{"label": h.label, "column": h.column, "prompts": h.prompts} for h in table.headings],
        "published": [
            {"key": row.key, "label": row.label, "values": row.values, "dagger": row.daggers, "recipe": row.recipe}
            for row in table.rows
        ],
        "measured": [
            {
                "row": item.row, "model": item.model, "protocol": item.label, "comparable": not item.marked,
                "values": [_scaled(cell, h) for cell, h in zip(item.cells, table.headings, strict=True)],
            }
            for item in measured
        ],
        "notes": _notes(table, measured),
    }  # fmt: skip
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _published(table: PublishedTable, row) -> list[str]:
    return [
        f"{value:.{heading.digits}f}{DAGGER if position in row.daggers else ''}"
        for position, (value, heading) in enumerate(zip(row.values, table.headings, strict=True))
    ]


def _markdown_row(item: Measured, table: PublishedTable) -> list[str]:
    name = "".join(f"\\{c}" if c in "|`<>*" else c for c in _name(item))
    return [f"*{name}*", *_measured_cells(item, table)]


def _name(item: Measured) -> str:
    return f"measured: {item.model}, {item.label}{MARK if item.marked else ''}"


def _measured_cells(item: Measured, table: PublishedTable) -> list[str]:
    return [
        "–" if cell is None else interval_text(cell, heading.scale, heading.digits)
        for cell, heading in zip(item.cells, table.headings, strict=True)
    ]


def _scaled(cell: dict | None, heading: Heading) -> list[float] | None:
    return None if cell is None else [cell[name] * heading.scale for name in ("mean", "low", "high")]


def _notes(table: PublishedTable, measured: Sequence[Measured]) -> list[str]:
    notes = list(table.notes)
    for item in measured:
        notes += [
            f"{item.model}, {item.label}: {label} {interval_text(score, 100, 2)}, for the values marked {DAGGER}."
            for label, score in item.extra
        ]
    if any(item.marked for item in measured):
        notes.append(MARK_NOTE)
    if any(heading.assumed for heading in table.headings):
        variants = ", ".join(f"{h.label}: {h.column}" for h in table.headings if h.assumed)
        notes.append(f"Variants of ours: {variants} (assumed).")
    there = {item.row for item in measured}
    for row in table.rows:
        config = row.recipe.partition(" ")[0]
        if row.key not in there and config and Path(config).is_file():
            notes.append(f"{row.label} is not measured here; trained by {row.recipe}.")
    if not measured:
        protocol = table.protocols[0]
        notes.append(
            f"Nothing is measured here yet: python -m benchmarks quality doctor {protocol} says what it takes."
        )
    return notes
