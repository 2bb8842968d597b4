"""The demo's page: tables, curves, the same prompts side by side, clips that play, and their origin."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image
from safetensors.numpy import load_file

from benchmarks.experiments.toy.demo_plan import ARMS, DemoPaths
from benchmarks.experiments.toy.demo_results import METHOD, SECONDS, WIN_RATE, ArmResult, ModalityResult
from seppo_core.report.chart import Line, line_chart, smoothed
from seppo_core.report.grid import GridRow, sample_grid
from seppo_core.report.html import Child, Html, element
from seppo_core.report.page import Section, facts, notes, page, row_of
from seppo_core.report.provenance import provenance_block
from seppo_core.report.table import Cell, Row, axis_of, interval_bar, interval_cell, number, table

SERIES = {"base": 0, "continued": 1, "sft": 2, "seppo": 3, "seppo_anchor_off": 4}
HEADINGS = {"image": "Images", "video": "Clips"}
FIXED, EXTREME = 6, 3  # prompts in the two grids: evenly spaced ones; the largest gains, and as many losses
SHOWN = 2  # samples per prompt and arm
WINDOW = 10


def demo_page(
    results: Sequence[ModalityResult], provenance: dict, timings: Sequence[tuple[str, float]], workers: int
) -> Html:
    """The whole document."""
    lead = (
        "Two small base models, one of images and one of clips, aligned with SePPO, with supervised fine-tuning (SFT) "
        "and with SePPO without its anchor: from the same weights, for as many updates, judged by an exact score on "
        "prompts that no training has seen."
    )
    sections = [Section("In short", [_summary(results)])]
    sections += [_section(result) for result in results]
    sections.append(Section("How it was measured", _method(results)))
    origin: list[Child] = [provenance_block(provenance), element("h3", "Time per step"), _timings(timings, workers)]
    sections.append(Section("Where it comes from", origin))
    return page("SePPO on the embedded task", lead, sections)


def _summary(results: Sequence[ModalityResult]) -> Html:
    items = []
    for result in results:
        for verdict in result.verdicts:
            mark = {True: "yes", False: "no", None: "fact"}[verdict.holds]
            items.append(element("li", f"{HEADINGS[result.modality]}: {verdict}", class_=mark))
    return element("ul", *items, class_="verdicts")


def _section(result: ModalityResult) -> Section:
    arms = [(arm.name, SERIES[name]) for name, arm in result.arms.items()]
    what = "pictures" if result.modality == "image" else "clips, playing in step"
    even = np.linspace(0, len(result.prompts) - 1, FIXED).round().astype(int)
    body: list[Child] = [
        result_table(result),
        element("h3", "The same prompts, the same noise"),
        sample_grid(arms, _rows(result, even), f"Evenly spaced held-out prompts, not selected: {what}, score below."),
        _look_at(result),
        curves(result),
    ]
    gain = result.arms["seppo"].scores.mean(1) - result.arms["base"].scores.mean(1)
    order = np.argsort(-gain, kind="stable")
    few = min(EXTREME, len(order) // 2)
    extremes = np.concatenate([order[:few], order[len(order) - few :]])
    body += [
        element("h3", "Where SePPO gains and loses most"),
        sample_grid(
            arms, _rows(result, extremes),
            f"The {few} prompts on which SePPO gains most over the base, all seeds averaged, then the {few} on which "
            "it gains least or loses: extremes, chosen by the outcome.",
        ),
    ]  # fmt: skip
    return Section(HEADINGS[result.modality], body)


def result_table(result: ModalityResult) -> Html:
    """One line per arm."""
    low, high = axis_of([arm.mean for arm in result.arms.values()])
    base = result.arms["base"].mean.value
    rows = []
    for name, arm in result.arms.items():
        is_base = name == "base"
        rows.append(
            Row(
                [
                    Cell(arm.name),
                    interval_cell(arm.mean),
                    interval_bar(arm.mean, low, high, SERIES[name], marker=base),
                    Cell("–", 0.5, number=True) if is_base else interval_cell(arm.win_rate, digits=1, percent=True),
                    Cell("–", 0.0, number=True) if is_base else number(arm.seconds, 0),
                ],
                SERIES[name],
                "control" if name in ("base", "continued") else "",
            )
        )
    count = f"{len(result.prompts)} held-out prompts × {len(result.seeds)} seeds"
    headings = ["arm", "mean score", "95 % interval", "wins over base", "seconds"]
    return table(headings, rows, f"Exact score in 0 to 1, {count}; the dashed line is the base's mean.")


def curves(result: ModalityResult) -> Html:
    """Score, winner error and shares of s over updates."""
    trained = [arm for arm in result.arms.values() if arm.metrics]
    winners = (
        ("mean of the winners themselves", result.set_scores["winners"]) if "winners" in result.set_scores else None
    )
    on_winners = [arm for arm in trained if arm.arm != "continued"]
    seppo = result.arms["seppo"]
    return row_of(
        line_chart(
            "Score", [Line(a.name, SERIES[a.arm], a.curve, markers=True) for a in trained], "updates", "mean score",
            level=winners, note="held-out prompts, first seed",
        ),
        line_chart(
            "Winner error", [Line(a.name, SERIES[a.arm], _series(a, "winner_error")) for a in on_winners], "updates",
            "mean squared error", note=f"policy on its winners, mean of {WINDOW} updates",
        ),
        line_chart(
            "Shares of s",
            [
                Line("s = +1: the sample is a loser", 5, _series(seppo, "share_s_plus")),
                Line("s = −1: the sample is a second winner", 6, _series(seppo, "share_s_minus"), dashed=True),
            ],
            "updates", "share of pairs", note=f"{ARMS['seppo'].name}, mean of {WINDOW} updates",
        ),
        line_chart(
            "Implicit accuracy",
            [Line(a.name, SERIES[a.arm], _series(a, "implicit_accuracy")) for a in trained], "updates",
            "share of pairs", note="signed margin above zero",
        ),
    )  # fmt: skip


def _series(arm: ArmResult, name: str) -> list[tuple[float, float]]:
    return smoothed([(line["update"], line[name]) for line in arm.metrics if name in line], WINDOW)


def _rows(result: ModalityResult, chosen: Sequence[int]) -> list[GridRow]:
    seeds = min(SHOWN, len(result.seeds))
    return [
        GridRow(
            result.prompts[i],
            [arm.samples[i, :seeds] for arm in result.arms.values()],
            [arm.scores[i, :seeds].tolist() for arm in result.arms.values()],
        )
        for i in chosen
    ]


def _look_at(result: ModalityResult) -> Html:
    common = [
        "The bars: intervals that do not touch are apart whatever the test. The paired differences under “In short” "
        "are the finer measure, since all arms draw from the same noise.",
        "“continued” trains the base on as its own data: what it gains is more training, not preference. SFT sees the "
        "same winners as SePPO and is the control that counts most.",
        "The winner error should not rise. Without the anchor the policy may be pushed away from its winners while the "
        "loss looks better than ever.",
        "The share of s = +1 says how often the policy already beats its reference on the winner. An iteration whose "
        "reference is the policy itself begins with ties, which count as −1.",
    ]
    if result.modality == "video":
        common.append("In the clips: does the shape move the way the prompt says, all the way, without flicker?")
    else:
        common.append("In the grid: colour, shape, background and size are each right or wrong; blur costs score too.")
    return notes("What to look at", common)


def _method(results: Sequence[ModalityResult]) -> list[Child]:
    sets = [
        f"{HEADINGS[r.modality]}: winners {r.set_scores['winners']:.3f}, losers {r.set_scores['losers']:.3f}, the "
        f"control's data {r.set_scores['continued']:.3f}"
        for r in results
        if {"winners", "losers", "continued"} <= r.set_scores.keys()
    ]
    known: list[tuple[str, Child]] = [
        ("Mean", METHOD),
        ("Wins", WIN_RATE),
        ("Seconds", SECONDS),
        ("Noise", "every arm draws a prompt and a seed from the same initial noise"),
        ("Sets", "mean exact score of the training files. " + "; ".join(sets)),
        ("Runs", "one training run per arm: the intervals are over prompts, not over training seeds"),
    ]
    return [facts(known)]


def _timings(timings: Sequence[tuple[str, float]], workers: int) -> Html:
    rows = [Row([Cell(name), number(seconds, 1)]) for name, seconds in timings]
    return table(["step", "seconds"], rows, f"Wall time; up to {workers} at a time.", class_="narrow")


COLUMNS = 16
ENLARGE = 4


def picture(demo: Path, out: Path) -> None:
    """One row an arm (base, continued, SFT, SePPO, SePPO with the anchor off), one column a held-out prompt."""
    rows = []
    for arm in ARMS:
        last = sorted((DemoPaths(demo).scores("image") / arm).glob("update-*.safetensors"))[-1]
        samples = load_file(last)["samples"][:, 0]
        rows.append(samples[:: max(1, len(samples) // COLUMNS)][:COLUMNS])
    grid = rearrange(np.stack(rows), "r k h w c -> (r h) (k w) c")
    image = Image.fromarray(grid)
    out.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * ENLARGE, image.height * ENLARGE), Image.Resampling.NEAREST).save(out)


if __name__ == "__main__":
    picture(Path(sys.argv[1]), Path(sys.argv[2]))
