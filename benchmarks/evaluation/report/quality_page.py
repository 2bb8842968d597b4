"""The report as one self-contained page: numbers with intervals, samples side by side, and where it all comes from."""

from collections.abc import Sequence

import numpy as np

from benchmarks.evaluation.protocols import is_own
from benchmarks.evaluation.report.gallery import gallery
from benchmarks.evaluation.report.media import Bar, Group, bar_chart
from benchmarks.evaluation.report.text import (
    PUBLISHED,
    SEED_HEADINGS,
    SET_CAPTION,
    SET_HEADINGS,
    difference_rows,
    differing,
    group_rows,
    made_elsewhere,
    prompts_name,
    published_rows,
    reward_mark,
    seed_rows,
    set_rows,
)
from benchmarks.evaluation.results import Results, prompt_means
from seppo_core.judging.columns import Column
from seppo_core.report.chart import Line, line_chart
from seppo_core.report.html import Child, Html, element, join
from seppo_core.report.page import Section, facts, notes, page, row_of
from seppo_core.report.provenance import provenance_block
from seppo_core.report.statistics import Interval
from seppo_core.report.table import Cell, Row, axis_of, interval_bar, interval_cell, table
from seppo_core.report.wording import counted

COLOURS = 8
BINS = 24
BESIDE = 4
"""Metrics of a table whose intervals have room beside their means."""
MOST_COLUMNS = 3
"""Columns that get charts by category of their own; the tables have all."""


def quality_page(report: dict, results: Results, provenance: dict) -> Html:
    """The whole document."""
    prompts, what = report["prompts"], report["protocol"]["what"]
    seeds = len(report["protocol"]["seeds"])
    lead = (
        f"{what}{'' if what.endswith('?') else '.'} {counted(len(report['models']), 'model')}, "
        f"{counted(prompts['used'], 'prompt')}, {counted(seeds, 'sample')} each{_noise(report)}."
    )
    sections = [
        Section("Before the numbers" if report["columns"] else "Before the pictures", [_warned(report)]),
        Section("Scores" if report["columns"] else "Models", _scores(report)),
        Section("Samples", [gallery(results, _main_column(results), report["baseline"])]),
        Section("Differences", _differences(report)),
    ]
    if report["categories"]:
        sections.append(Section("By category", _categories(report, results)))
    if results.columns:
        sections.append(Section("Distributions", [_distributions(report, results)]))
    if how := differing(report):
        sections.append(Section("How this differs from the paper", [element("ul", *_items(how))]))
    sections.append(Section("Where it comes from", _provenance(report, provenance)))
    return page(report["label"], lead, [section for section in sections if section.body])


def _noise(report: dict) -> str:
    """What a reader may take the likeness of samples for."""
    made = [model["name"] for model in report["models"] if made_elsewhere(model)]
    if len(made) == len(report["models"]):
        return ""
    return " from shared noise" + (f", but for those of {', '.join(made)}, which were made elsewhere" if made else "")


def series(report: dict, model: str) -> int:
    """A model's colour, the same in every chart."""
    return [m["name"] for m in report["models"]].index(model) % COLOURS


def _items(texts: Sequence[str]) -> list[Html]:
    return [element("li", text) for text in texts]


def _warned(report: dict) -> Html:
    if not report["warnings"]:
        scored = "drawn and scored" if report["columns"] else "drawn"
        unchanged = "" if is_own(report["protocol"]["name"]) else ", and nothing was changed from the protocol"
        return element("p", f"Every sample was {scored}{unchanged}.")
    return notes("What to know first", report["warnings"])


def _scores(report: dict) -> list[Child]:
    columns = report["columns"]
    found = {(row["model"], row["column"]): row for row in report["scores"]}
    rows = []
    for model in report["models"]:
        cells = [Cell(model["name"]), Cell(f"{model['samples']}/{model['wanted']}", model["samples"], number=True)]
        cells += [
            _marked(_interval_cell(found[model["name"], column["name"]], column), reward_mark(report, model, column))
            for column in columns
        ]
        rows.append(Row(cells, series(report, model["name"])))
    headings = ["model", "samples", *(column["title"] for column in columns)]
    caption = "Means with 95 % intervals over prompts (Student's t)." if columns else "Samples that are there."
    body: list[Child] = [table(headings, rows, caption, _density(columns))]
    body.append(row_of(*(_bars(report, column, found) for column in columns if _drawable(report, column, found))))
    if published := published_rows(report):
        names, lines, remarks = published
        shown = [Row([Cell(line[0]), *(_published_cell(text) for text in line[1:])], kind="control") for line in lines]
        body += [
            element("h3", "The paper's own rows"),
            table(["method", *names], shown, f"Not measured here: {PUBLISHED}."),
            *(element("p", remark, class_="quiet") for remark in remarks),
        ]
    if seeds := seed_rows(report):
        lines = [Row([Cell(text) for text in line]) for line in seeds]
        caption = "Mean deviation over the seeds of a prompt; the interval over prompts holds the noise of few seeds."
        body += [element("h3", "Over seeds"), table(SEED_HEADINGS, lines, caption)]
    if sets := set_rows(report):
        body += [
            element("h3", "Distances between sets"),
            table(SET_HEADINGS, [Row([Cell(text) for text in line]) for line in sets], SET_CAPTION),
        ]
    if report["groups"]:
        lines = [Row([Cell(text) for text in line]) for line in group_rows(report)]
        caption = "As the benchmark publishes it: mean of the groups' means and their deviation."
        body += [
            element("h3", "By style, in groups"),
            table(["style", "model", "metric", "mean", "groups"], lines, caption),
        ]
    return body


def _drawable(report: dict, column: dict, found: dict) -> bool:
    return len(report["models"]) > 1 and all("mean" in found[m["name"], column["name"]] for m in report["models"])


def _bars(report: dict, column: dict, found: dict) -> Html:
    intervals = {m["name"]: _interval(found[m["name"], column["name"]], column["scale"]) for m in report["models"]}
    low, high = axis_of(list(intervals.values()))
    base = intervals[report["baseline"]].value
    rows = [
        Row([Cell(name), interval_bar(interval, low, high, series(report, name), marker=base)], series(report, name))
        for name, interval in intervals.items()
    ]
    return table(
        ["model", column["title"]], rows, f"{column['what']}; the dashed line is {report['baseline']}.", "narrow"
    )


def _differences(report: dict) -> list[Child]:
    if not report["differences"]:
        return []
    rows = []
    for line, row in zip(difference_rows(report), report["differences"], strict=True):
        cells = [Cell(text) for text in line]
        cells[2] = Cell(line[2], row["mean"], number=True)
        rows.append(Row(cells, series(report, row["model"])))
    caption = (
        f"Model minus {report['baseline']} on shared prompts and seeds, paired t interval; p by sign flips, corrected "
        "over the metrics of a model (Holm); wins with ties half, Wilson's interval, over prompts as clusters; "
        "“detectable” is the smallest true difference that this many prompts find four times in five."
    )
    headings = ["model", "metric", "difference", "wins", "p (Holm)", "effect d", "detectable"]
    return [table(headings, rows, caption)]


def _categories(report: dict, results: Results) -> list[Child]:
    columns = [column for column in report["columns"] if column["mode"] != "set"]
    body: list[Child] = []
    for category in dict.fromkeys(row["category"] for row in report["categories"]):
        charts = [_category_chart(report, category, column) for column in columns[:MOST_COLUMNS]]
        body += [element("h3", category), row_of(*charts), _category_table(report, category, columns)]
    return body


def _category_chart(report: dict, category: str, column: dict) -> Html:
    groups = {}
    for row in report["categories"]:
        if row["category"] == category and row["column"] == column["name"] and "gain" in row:
            gain = Interval(*(value * column["scale"] for value in row["gain"]))
            bars = groups.setdefault(row["value"], (row["prompts"], []))[1]
            bars.append(Bar(row["model"], series(report, row["model"]), gain))
    shown = [Group(name, prompts, bars) for name, (prompts, bars) in groups.items()]
    way = "less is better" if column["better"] < 0 else "more is better"
    return bar_chart(column["title"], shown, f"difference to {report['baseline']}, {way}", "with 95 % intervals")


def _category_table(report: dict, category: str, columns: Sequence[dict]) -> Html:
    found = {(r["value"], r["model"], r["column"]): r for r in report["categories"] if r["category"] == category}
    rows = []
    for value, model in dict.fromkeys((value, model) for value, model, _ in found):
        cells = [_interval_cell(found[value, model, column["name"]], column) for column in columns]
        count = found[value, model, columns[0]["name"]]["prompts"]
        rows.append(
            Row([Cell(model), Cell(value), Cell(str(count), count, number=True), *cells], series(report, model))
        )
    headings = ["model", category, "prompts", *(c["title"] for c in columns)]
    return table(headings, rows, f"Means by {category}.", _density(columns))


def _density(columns: Sequence[dict]) -> str:
    """Intervals below their means where they would not fit beside them."""
    return "dense" if len(columns) > BESIDE else ""


def _distributions(report: dict, results: Results) -> Html:
    charts = []
    for column in results.columns:
        values = {name: prompt_means(results.table(name, column.name)) * column.scale for name in results.names}
        there = {name: found[np.isfinite(found)] for name, found in values.items()}
        if pooled := [found for found in there.values() if len(found)]:
            edges = _edges(np.concatenate(pooled))
            lines = [Line(n, series(report, n), _histogram(v, edges)) for n, v in there.items() if len(v)]
            charts.append(line_chart(column.title, lines, column.name, "share of prompts", note=column.what))
    return row_of(*charts)


def _edges(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high if high > low else low + 1, min(BINS, max(6, len(values) // 4)) + 1)


def _histogram(values: np.ndarray, edges: np.ndarray) -> list[tuple[float, float]]:
    counts, _ = np.histogram(values, edges)
    return [(float(x), float(c) / len(values)) for x, c in zip((edges[1:] + edges[:-1]) / 2, counts, strict=True)]


def _main_column(results: Results) -> Column | None:
    """The column by which samples are chosen and sorted: the first that reads the prompt, else the first."""
    reading = [column for column in results.columns if column.mode in ("image", "frames")]
    return (reading or results.columns or [None])[0]


def _provenance(report: dict, provenance: dict) -> list[Child]:
    prompts = report["prompts"]
    body: list[Child] = [
        provenance_block(provenance),
        element("h3", "Prompts"),
        facts(
            [
                ("set", prompts_name(prompts)),
                ("file", f"{prompts['file']}, {counted(prompts['rows'], 'row')}, {prompts['used']} used, SHA-256 "
                         f"{prompts['file_sha256'][:16]}"),
                ("texts", f"SHA-256 {prompts['texts_sha256'][:16]}"),
                ("as published", {True: "yes", False: "no", None: "not known"}[prompts["as_published"]]),
            ]
        ),
        element("h3", "Models"),
    ]  # fmt: skip
    for model in report["models"]:
        sampler = ", ".join(f"{name} {value}" for name, value in model["sampler"].items())
        speed = model["seconds_per_sample"]
        body.append(
            facts(
                [
                    ("model", element("strong", model["name"])),
                    ("place", element("code", model["place"])),
                    ("fingerprint", element("code", model["fingerprint"])),
                    *(
                        [("made", "elsewhere")]
                        if made_elsewhere(model)
                        else [
                            ("drawn by", f"{sampler}; {'–' if speed is None else f'{speed:g} s'} a sample"),
                            ("versions", ", ".join(f"{name} {value}" for name, value in model["versions"].items())),
                        ]
                    ),
                ]
            )
        )
    judged: list[tuple[str, Child]] = [(c["name"], element("code", c["fingerprint"][:16])) for c in report["columns"]]
    settings: list[tuple[str, Child]] = [
        (name, str(value)) for name, value in report["protocol"].items()
        if name not in ("name", "what", "assumed", "differs", "metrics", "sets", "changed")
    ]  # fmt: skip
    body += [element("h3", "Metrics"), facts(judged), element("h3", "Protocol"), facts(settings)]
    return body


def _interval(row: dict, scale: float) -> Interval:
    return Interval(row["mean"] * scale, row["low"] * scale, row["high"] * scale)


def _interval_cell(row: dict, column: dict) -> Cell:
    if "mean" not in row:
        return Cell("–", -1e9, number=True)
    return interval_cell(_interval(row, column["scale"]), column["digits"])


def _marked(cell: Cell, mark: str) -> Cell:
    if not mark:
        return cell
    hint = "trained or selected by this metric or its family"
    return Cell(join(cell.shown, " ", element("span", mark, title=hint)), cell.sort, cell.number)


def _published_cell(text: str) -> Cell:
    return Cell(text, float(text.rstrip("†")), number=True)
