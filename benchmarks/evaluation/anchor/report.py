"""Writes the findings as JSON of a stated version, a Markdown table and one page with charts."""

from pathlib import Path

from seppo_core.io.atomic import save_json, save_text
from seppo_core.report.chart import Line, line_chart
from seppo_core.report.html import Html, element
from seppo_core.report.page import Section, facts, notes, page, row_of, save_page
from seppo_core.report.provenance import provenance, provenance_block
from seppo_core.report.table import Cell, Row, table
from seppo_core.report.text_table import markdown_table

FORMAT = 1
KIND = "seppo-anchor-report"
SHARES = ("share_plus", "base_rate", "precision", "recall", "precision_minus", "recall_minus", "gain")
HEADINGS = ("s = +1", "reference worse", "precision +", "recall +", "precision −", "recall −", "precision + minus base")
WHAT = (
    "s = +1 says that the policy denoises the winner better than the reference does, and hence that the reference's "
    "sample is a loser. A judge says whether that sample really scores below the policy's own, drawn from the same "
    "noise for the same caption. Precision of s = +1 is to be held against how often the reference's sample is worse "
    "anyway; if s knows nothing of the judge, the two are equal and their difference is 0."
)


def write_report(out: Path, content: dict) -> dict:
    """Writes anchor.json, anchor.md and anchor.html into the folder and returns the content of the first."""
    report = {"format": FORMAT, "kind": KIND, **content, "provenance": provenance()}
    save_json(out / "anchor.json", report)
    save_text(out / "anchor.md", markdown(report))
    save_page(out / "anchor.html", _page(report))
    return report


def markdown(report: dict) -> str:
    """One table per judge: over training, and at the last point over timesteps."""
    lines = [f"# Anchor validity of {report['run']}", "", WHAT, "", _facts(report)]
    for judge in report["judges"]:
        lines += [
            "",
            f"## {judge['name']}",
            "",
            "Over training, one draw as in the loss, and the mean over all draws:",
            "",
        ]
        lines += markdown_table(["update", "reference", "sign by", "items", "tied", *HEADINGS], _training_rows(judge))
        last = judge["points"][-1]
        lines += ["", f"Over timesteps, at update {last['update']}:", ""]
        lines += markdown_table(
            ["t", "tied", *HEADINGS], [[_range(row), str(row["tied"]), *_shares(row)] for row in last["bins"]]
        )
        if judge["failed"]:
            lines += ["", f"{judge['failed']} items could not be judged and are left out."]
    return "\n".join(lines) + "\n"


def _facts(report: dict) -> str:
    return (
        f"{report['items']} winners, {report['draws']} draws of timestep and noise each, {report['samples']} "
        f"sample{'s' if report['samples'] > 1 else ''} of either model per winner, reference: {report['reference']}, "
        f"method {report['method']}. Per cent, with 95 % intervals over captions."
    )


def _training_rows(judge: dict) -> list[list[str]]:
    rows = []
    for point in judge["points"]:
        for row in point["overall"]:
            counts = [str(point["items"]), str(row["tied"])]
            rows.append([str(point["update"]), str(point["reference"]), row["scope"], *counts, *_shares(row)])
    return rows


def _shares(row: dict) -> list[str]:
    return [_percent(row[name], name == "gain") for name in SHARES]


def _percent(interval: list[float] | None, signed: bool) -> str:
    if interval is None:
        return "–"
    mean, low, high = (f"{100 * value:{'+' if signed else ''}.1f}" for value in interval)
    return f"{mean} [{low}, {high}]"


def _range(row: dict) -> str:
    return f"{row['t'][0]:g} to {row['t'][1]:g}"


def _page(report: dict) -> Html:
    sections = []
    for judge in report["judges"]:
        last = judge["points"][-1]
        charts = [
            _chart(
                "Over timesteps", f"at update {last['update']}", "middle of the timesteps",
                [((row["t"][0] + row["t"][1]) / 2, row) for row in last["bins"]],
            )
        ]  # fmt: skip
        for number, scope in enumerate(row["scope"] for row in last["overall"]):
            rows = [(point["update"], point["overall"][number]) for point in judge["points"]]
            charts.append(_chart("Over training", f"sign by {scope}", "update", rows))
        body = [row_of(*charts), _html_table(judge)]
        if judge["failed"]:
            body.insert(0, notes("Left out", [f"{judge['failed']} items could not be judged."]))
        sections.append(Section(f"Judge: {judge['name']}", body))
    settings = [
        (name, str(report[name])) for name in ("method", "reference", "items", "draws", "samples", "bins", "seed")
    ]
    sections.append(Section("Where it comes from", [facts(settings), provenance_block(report["provenance"])]))
    return page(f"Anchor validity of {report['run']}", WHAT, sections)


def _chart(title: str, note: str, x_label: str, rows: list[tuple[float, dict]]) -> Html:
    lines = []
    # colour 0 is that of controls
    for series, (name, heading) in enumerate(
        (("precision", "precision of s = +1"), ("base_rate", "reference worse"), ("recall", "recall of s = +1"),
         ("share_plus", "s = +1")),
        start=1,
    ):  # fmt: skip
        there = [(x, row[name]) for x, row in rows if row[name] is not None]
        lines.append(
            Line(
                heading, series, [(x, value[0]) for x, value in there], dashed=name == "base_rate",
                low=[value[1] for _, value in there], high=[value[2] for _, value in there], markers=True,
            )
        )  # fmt: skip
    return line_chart(title, lines, x_label, "share", note=note)


def _html_table(judge: dict) -> Html:
    rows = [Row([Cell(text) for text in row]) for row in _training_rows(judge)]
    shown = table(
        ["update", "reference", "sign by", "items", "tied", *HEADINGS], rows,
        "Per cent, with 95 % intervals over captions.",
    )  # fmt: skip
    bins = [Row([Cell(_range(row), row["t"][0]), Cell(row["tied"]), *map(Cell, _shares(row))])
            for row in judge["points"][-1]["bins"]]  # fmt: skip
    update = judge["points"][-1]["update"]
    return element("div", shown, table(["t", "tied", *HEADINGS], bins, f"Over timesteps, at update {update}."))
