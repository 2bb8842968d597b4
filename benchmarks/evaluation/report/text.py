"""A report's numbers as Markdown and as LaTeX (booktabs), the paper's rows set apart."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evaluation.paper.published import DAGGER, PublishedTable, as_the_paper, published_beside
from benchmarks.evaluation.paper.published import MARK as OTHERWISE
from benchmarks.evaluation.protocols import is_own
from benchmarks.evaluation.trained_on import MARK
from seppo_core.report.text_table import latex_table, latex_text, markdown_table, markdown_text
from seppo_core.report.wording import counted

SEED_HEADINGS = ["model", "metric", "mean", "deviation over seeds"]
SET_HEADINGS = ["model", "metric", "distance", "prompts", "left out", "bias", "bootstrap draws"]
SET_CAPTION = (
    "Distances between sets. Left out for all models: prompts without a reference, or of which any model lacks a "
    "sample or its features. Bias: how much further a bootstrap draw, which has fewer different prompts, lies than the "
    "value; the interval is moved back by it."
)
PUBLISHED = "as published; another protocol in all that the paper does not state"
OTHERWISE_NOTE = (
    f"{OTHERWISE} published under another protocol than that of this report: not comparable with what is measured here."
)

FORMAT = 1
KIND = "seppo-quality-report"


def read_report(path: Path) -> dict:
    """report.json of a folder or by its own path. FileNotFoundError, or ValueError for another kind or format."""
    file = path / "report.json" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{path} holds no report.json; `quality report` makes one")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != KIND or content.get("format") != FORMAT:
        raise ValueError(f"{file} is not a quality report of format {FORMAT}; make it anew with `quality report`")
    return content


def markdown(report: dict) -> str:
    """Tables of means with 95 % intervals and of differences to the baseline, and what must be known about them."""
    columns = report["columns"]
    lines = [f"# {markdown_text(report['label'])}", "", *_facts(report), ""]
    lines += _markdown_table(["model", "n", *(c["title"] for c in columns)], _measured(report, columns))
    if published := published_rows(report):
        headings, rows, notes = published
        lines += ["", f"The paper's own rows ({PUBLISHED}):", ""]
        lines += _markdown_table(["method", *headings], rows)
        lines += ["", *notes]
    if report["differences"]:
        lines += ["", f"Differences to {markdown_text(report['baseline'])} on shared prompts and seeds:", ""]
        lines += _markdown_table(
            ["model", "metric", "difference", "wins", "p (Holm)", "effect d", "detectable"], difference_rows(report)
        )
    if seeds := seed_rows(report):
        lines += ["", "Mean deviation over the seeds of a prompt; the intervals above hold the noise of few seeds:", ""]
        lines += _markdown_table(SEED_HEADINGS, seeds)
    if sets := set_rows(report):
        lines += ["", SET_CAPTION, ""]
        lines += _markdown_table(SET_HEADINGS, sets)
    if report["groups"]:
        lines += ["", "Mean of group means ± deviation of the groups:", ""]
        lines += _markdown_table(["style", "model", "metric", "mean", "groups"], group_rows(report))
    if report["warnings"]:
        lines += [
            "",
            f"Before you use these {'numbers' if columns else 'pictures'}:",
            "",
            *(f"- {markdown_text(w)}" for w in report["warnings"]),
        ]
    if how := differing(report):
        lines += ["", "How this differs from the paper:", "", *(f"- {markdown_text(item)}" for item in how)]
    return "\n".join(lines) + "\n"


def latex(report: dict) -> str:
    r"""The first table as a `tabular` for \usepackage{booktabs}: measured rows, a rule, the paper's rows, and below
    it in small print what the marks mean and what must be known."""
    columns = report["columns"]
    headings = ["", *(c["title"] for c in columns)]
    groups: list[list[list[str]]] = [[]]
    for model in report["models"]:
        cells = [
            _latex_interval(_score(report, model["name"], c["name"]), c) + latex_text(reward_mark(report, model, c))
            for c in columns
        ]
        groups[0].append([latex_text(model["name"]), *cells])
    notes = list(report["warnings"])
    if any(reward_mark(report, m, c) for m in report["models"] for c in columns):
        notes.append(f"{MARK} the model was trained or selected by this metric or its family.")
    table = _beside(report)
    if table is not None:
        paper, positions = table
        at = {paper.headings[i].column: i for i in positions}
        shown = [i for column, i in at.items() if column in [c["name"] for c in columns]]
        notes += _published_notes(report, paper, shown)
        groups.append([[rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{\emph{{As published}}}}"]])
        for row in paper.rows:
            cells = []
            for column in columns:
                i = at.get(column["name"])
                cells.append(
                    "--"
                    if i is None
                    else f"{row.values[i]:.{paper.headings[i].digits}f}" + (r"$^\dagger$" if i in row.daggers else "")
                )
            groups[1].append([latex_text(_row_label(report, paper, row.label)), *cells])
    small = [rf"\par\noindent{{\footnotesize {latex_text(' '.join(note.split()))}}}" for note in notes]
    told = f"% {report['label']}, fingerprint {report['fingerprint']}; means with 95% t intervals over prompts"
    return "\n".join([told, *latex_table([*map(latex_text, headings)], groups), *small]) + "\n"


def published_rows(report: dict) -> tuple[list[str], list[list[str]], list[str]] | None:
    """Headings, rows and notes of the paper's table that a report repeats, if it repeats one."""
    found = _beside(report)
    if found is None:
        return None
    table, positions = found
    headings = [
        table.headings[i].label + (" (variant assumed)" if table.headings[i].assumed else "") for i in positions
    ]
    rows = [
        [
            _row_label(report, table, row.label),
            *(f"{row.values[i]:.{table.headings[i].digits}f}{DAGGER if i in row.daggers else ''}" for i in positions),
        ]
        for row in table.rows
    ]
    return headings, rows, _published_notes(report, table, positions)


def _beside(report: dict) -> tuple[PublishedTable, tuple[int, ...]] | None:
    columns = [column["name"] for column in report["columns"]]
    return published_beside(report["protocol"]["name"], report["prompts"]["name"], columns)


def _row_label(report: dict, table: PublishedTable, label: str) -> str:
    """A row of the paper, marked if this report's numbers are not comparable with it."""
    return label if as_the_paper(report, table) else f"{label}{OTHERWISE}"


def _published_notes(report: dict, table: PublishedTable, positions: Sequence[int]) -> list[str]:
    marked = any(i in row.daggers for row in table.rows for i in positions)
    notes = [note for note in table.notes if marked or not note.startswith(DAGGER)]
    if assumed := [table.headings[i] for i in positions if table.headings[i].assumed]:
        notes.append(f"Variants of ours: {', '.join(f'{h.label}: {h.column}' for h in assumed)} (assumed).")
    return notes if as_the_paper(report, table) else [*notes, OTHERWISE_NOTE]


def difference_rows(report: dict) -> list[list[str]]:
    """Difference, win rate, corrected p, effect size and smallest detectable difference, one row a model and column."""
    columns = {column["name"]: column for column in report["columns"]}
    rows = []
    for row in report["differences"]:
        column = columns[row["column"]]
        scale, digits = column["scale"], column["digits"]
        wins = "–" if "win_rate" not in row else "{:.1f} % [{:.1f}, {:.1f}]".format(*(100 * x for x in row["win_rate"]))
        p = "–" if "p_holm" not in row else f"{row['p_holm']:.4f}"
        effect = "–" if row.get("effect") is None else f"{row['effect']:+.2f}"
        detectable = "–" if "detectable" not in row else f"{row['detectable'] * scale:.{digits}f}"
        rows.append([row["model"], column["title"], signed(row, scale, digits), wins, p, effect, detectable])
    return rows


def seed_rows(report: dict) -> list[list[str]]:
    """Rows for several samples per prompt: the mean with its interval, and the mean deviation of a prompt's seeds."""
    columns = {column["name"]: column for column in report["columns"]}
    rows = []
    for row in report["scores"]:
        if "seed_sd" in row:
            column = columns[row["column"]]
            scale, digits = column["scale"], column["digits"]
            mean = interval_text(row, scale, digits)
            rows.append([row["model"], column["title"], mean, f"{row['seed_sd'] * scale:.{digits}f}"])
    return rows


def set_rows(report: dict) -> list[list[str]]:
    """Rows of distances between sets, with the number of prompts, those left out, bias and bootstrap draws."""
    columns = {column["name"]: column for column in report["columns"] if column["mode"] == "set"}
    rows = []
    for row in report["scores"]:
        if (column := columns.get(row["column"])) is None:
            continue
        scale, digits = column["scale"], column["digits"]
        bias = f"{row['bias'] * scale:+.{digits}f}" if "bias" in row else "–"
        draws = str(row["resamples"]) if "resamples" in row else "–"
        distance = interval_text(row, scale, digits)
        rows.append(
            [row["model"], column["title"], distance, str(row["prompts"]), str(row["left_out"]), bias, draws]
        )  # fmt: skip
    return rows


def group_rows(report: dict) -> list[list[str]]:
    """The published form of HPSv2's benchmark."""
    columns = {column["name"]: column for column in report["columns"]}
    rows = []
    for row in report["groups"]:
        column = columns[row["column"]]
        mean, deviation = (f"{row[name] * column['scale']:.{column['digits']}f}" for name in ("mean", "deviation"))
        rows.append([row["style"], row["model"], column["title"], f"{mean} ± {deviation}", str(row["groups"])])
    return rows


def made_elsewhere(model: dict) -> bool:
    """Whether a model is a folder of samples that nothing here drew."""
    return model["identity"]["kind"] == "pictures"


def prompts_name(prompts: dict) -> str:
    """The set of the prompts, if they are those that were published under its name."""
    if prompts["as_published"] is False and prompts["cut_from"] is None:
        return f"{prompts['file']}, not those of {prompts['name']}"
    return prompts["name"]


def differing(report: dict) -> list[str]:
    """What these numbers have not of the paper's, beside what the report's warnings say; nothing for a protocol that
    repeats none."""
    protocol = report["protocol"]
    if is_own(protocol["name"]):
        return []
    items = [f"Assumed: {what}: {why}." for what, why in protocol["assumed"]]
    items += list(protocol["differs"])
    dtypes = {f"{m['sampler']['dtype']} on {m['sampler']['device']}" for m in report["models"] if m["sampler"]}
    items += [f"Models ran in {', '.join(sorted(dtypes))}; the authors used float16 on a GPU."] if dtypes else []
    if report["prompts"]["as_published"] is None:
        items.append(f"Whether the prompts are those published as {report['prompts']['name']} could not be checked by "
                     "hash, only by their number.")  # fmt: skip
    return items


def interval_text(row: dict, scale: float, digits: int) -> str:
    """`21.57 [21.40, 21.74]`, or why there is no number."""
    if "mean" not in row:
        return "–"
    mean, low, high = (f"{row[name] * scale:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def signed(row: dict, scale: float, digits: int) -> str:
    """A difference with its sign and interval."""
    mean, low, high = (f"{row[name] * scale:+.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def reward_mark(report: dict, model: dict, column: dict) -> str:
    """A mark if the model was trained or selected by the column's metric, or by one of its family."""
    return MARK if column["metric"] in report.get("fitted", {}).get(model["name"], {}) else ""


def _latex_interval(row: dict, column: dict) -> str:
    if "mean" not in row:
        return "--"
    mean, low, high = (f"{row[name] * column['scale']:.{column['digits']}f}" for name in ("mean", "low", "high"))
    return rf"{mean} {{\scriptsize [{low}, {high}]}}"


def _measured(report: dict, columns: Sequence[dict]) -> list[list[str]]:
    rows = []
    for model in report["models"]:
        cells = [
            interval_text(_score(report, model["name"], c["name"]), c["scale"], c["digits"])
            + reward_mark(report, model, c)
            for c in columns
        ]
        rows.append([model["name"], f"{model['samples']}/{model['wanted']}", *cells])
    return rows


def _score(report: dict, model: str, column: str) -> dict:
    return next((row for row in report["scores"] if row["model"] == model and row["column"] == column), {})


def _facts(report: dict) -> list[str]:
    prompts, protocol = report["prompts"], report["protocol"]
    seeds = len(protocol["seeds"])
    return [
        f"{counted(prompts['used'], 'prompt')} ({markdown_text(prompts_name(prompts))}, "
        f"SHA-256 of the texts {prompts['texts_sha256'][:12]}), "
        f"{counted(seeds, 'sample')} each, {protocol['width']} × {protocol['height']}"
        + (f", {protocol['frames']} frames" if protocol["frames"] > 1 else "")
        + f", {counted(protocol['steps'], 'step')}, guidance {protocol['guidance_scale']:g}, "
        f"seeds {protocol['seed_mode']}. "
        f"Fingerprint {report['fingerprint']}. "
        + ("Mean [95 % t interval over prompts]; " if report["columns"] else "")
        + "n: samples drawn."
    ]


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return markdown_table([*map(markdown_text, headings)], [[*map(markdown_text, row)] for row in rows])
