"""Writes the files of a report: JSON, CSV, Markdown, LaTeX and a page."""

import csv
import io

import numpy as np

from benchmarks.evaluation.analysis import analyse
from benchmarks.evaluation.folder import PlanFolder
from benchmarks.evaluation.report.quality_page import quality_page
from benchmarks.evaluation.report.text import latex, markdown
from benchmarks.evaluation.results import Results
from seppo_core.io.atomic import save_json, save_text
from seppo_core.report.page import save_page
from seppo_core.report.provenance import provenance

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters with which a spreadsheet takes a cell for a formula."""


def write_report(folder: PlanFolder, baseline: str | None = None, set_resamples: int | None = None) -> dict:
    """Writes all files into the folder and returns the content of report.json. Loads no model and no judge."""
    report, results = analyse(folder, baseline, set_resamples)
    origin = provenance()
    report["provenance"] = origin
    save_json(folder.folder / "report.json", report)
    save_text(folder.folder / "scores.csv", scores_csv(results))
    save_text(folder.folder / "table.md", markdown(report))
    save_text(folder.folder / "table.tex", latex(report))
    save_page(folder.folder / "index.html", quality_page(report, results, origin))
    return report


def scores_csv(results: Results) -> str:
    """Every score by itself: one row per model, prompt and seed, one column per metric, empty if there is none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [column.name for column in results.columns]
    writer.writerow(["model", "prompt_id", "seed", "prompt", "sample_sha256", *names])
    for model in results.models:
        tables = [results.table(model.entry.name, name) for name in names]
        for row, prompt in enumerate(results.plan.prompts.prompts):
            for at, seed in enumerate(results.plan.protocol.seeds):
                values = [table[row, at] for table in tables]
                shown = ["" if np.isnan(value) else repr(float(value)) for value in values]
                sha = model.hashes[row][at] or ""
                writer.writerow([harmless(model.entry.name), prompt.id, seed, harmless(prompt.text), sha, *shown])
    return stream.getvalue()


def harmless(text: str) -> str:
    """Text that a spreadsheet shows and does not run."""
    return f"'{text}" if text.startswith(FORMULA) else text
