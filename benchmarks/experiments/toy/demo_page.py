"""The demo's page: tables, curves, the same prompts side by side, clips that play, and their origin."""

from collections.abc import Sequence

import numpy as np

from benchmarks.experiments.toy.demo_arms import ARMS
from benchmarks.experiments.toy.demo_picture import RULE, shown
from benchmarks.experiments.toy.demo_results import METHOD, SECONDS, WIN_RATE, ArmResult, ModalityResult
from seppo_core.report.chart import Line, line_chart, smoothed
from seppo_core.report.grid import GridRow, sample_grid
from seppo_core.report.html import Child, Html, element, join
from seppo_core.report.page import Section, facts, notes, page, row_of
from seppo_core.report.provenance import provenance_block
from seppo_core.report.table import Cell, Row, axis_of, interval_bar, interval_cell, number, table

SERIES = {
    "base": 0, "continued": 1, "sft": 2, "seppo": 3, "dpo": 4, "anchor_off": 6, "published": 5, "gt_pair": 7,
}  # fmt: skip
HEADINGS = {"image": "Images", "video": "Clips"}
EXTREME = 3  # prompts of the largest gains, and as many of the largest losses
WIDTH = 96
WINDOW = 10
REFRESH = 5
"""Seconds after which a page that is not finished loads itself anew."""
LEAD = (
    "Two small base models, one of images and one of clips, drew samples for prompts; of each prompt's samples an "
    "exact score named the best and the worst, as people would. From that the base was aligned in several ways, each "
    "from the same weights and for as many updates, and judged on prompts that no training has seen."
)


def demo_page(
    results: Sequence[ModalityResult], provenance: dict, timings: Sequence[tuple[str, float]], workers: int
) -> Html:
    """The whole document, once all is done."""
    sections = [Section("In short", [_summary(results)])]
    sections += [section_of(result) for result in results]
    sections.append(Section("How it was measured", _method(results)))
    origin: list[Child] = [provenance_block(provenance), element("h3", "Time per step"), _timings(timings, workers)]
    sections.append(Section("Where it comes from", origin))
    return page("SePPO on the embedded task", LEAD, sections)


def unfinished_page(done: Sequence[Section], lines: Sequence[str]) -> Html:
    """The document while the demo runs: how far it is and what is finished. It loads itself anew every few seconds."""
    note = element(
        "p", f"This page loads itself anew every {REFRESH} seconds until the demo has ended.", class_="quiet"
    )
    state = Section("How far it is", [element("ul", *(element("li", line) for line in lines)), note])
    return page("SePPO on the embedded task: running", LEAD, [state, *done], refresh=REFRESH)


def _summary(results: Sequence[ModalityResult]) -> Html:
    items = []
    for result in results:
        for verdict in result.verdicts:
            mark = {True: "yes", False: "no", None: "fact"}[verdict.holds]
            items.append(element("li", f"{HEADINGS[result.modality]}: {verdict}", class_=mark))
    return element("ul", *items, class_="verdicts")


def section_of(result: ModalityResult) -> Section:
    """What one modality came to."""
    arms = [(arm.name, SERIES[name]) for name, arm in result.arms.items()]
    what = "the clips play in step" if result.modality == "video" else "score below each"
    body: list[Child] = [
        result_table(result),
        element("h3", "What was asked for, and what each arm draws"),
        sample_grid(arms, _rows(result, shown(result)), f"The prompts are {RULE}; {what}.", WIDTH),
        _look_at(result),
        curves(result),
    ]
    gain = result.arms["seppo"].scores.mean(1) - result.arms["base"].scores.mean(1)
    order = np.argsort(-gain, kind="stable")
    few = min(EXTREME, len(order) // 2)
    extremes = np.concatenate([order[:few], order[len(order) - few :]]).tolist()
    body += [
        element("h3", "Where SePPO gains and loses most"),
        sample_grid(
            arms, _rows(result, extremes),
            f"The {few} prompts on which SePPO gains most over the base, all seeds averaged, then the {few} on which "
            "it gains least or loses: extremes, chosen by the outcome.",
            WIDTH,
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
                    Cell(element("span", arm.name, title=ARMS[name].about), arm.name),
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
                Line("s = 0: the pair is left out", 6, _series(seppo, "share_s_zero"), dashed=True),
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
    return [
        GridRow(
            result.prompts[i],
            [arm.samples[i, :1] for arm in result.arms.values()],
            [arm.scores[i, :1].tolist() for arm in result.arms.values()],
        )
        for i in chosen
    ]


def _look_at(result: ModalityResult) -> Html:
    arms = [element("span", element("strong", arm.name), f": {ARMS[name].about}.") for name, arm in result.arms.items()]
    common: list[Child] = [
        "The score cannot see more than attributes, drawing and motion; whether a sample shows what its prompt asks "
        "for can be seen by eye.",
        "All arms draw a prompt from the same noise, so that the paired differences under “In short” are finer than "
        "the bars, whose intervals also hold how much prompts differ.",
        "The loss looks well without the anchor too, while the winner error rises: it should not.",
        "The share of s = +1 says how often the policy already beats the base on a winner.",
    ]
    seen = (
        "In the clips: does the shape move the way the prompt says, all the way, without flicker?"
        if result.modality == "video"
        else "In the grid: colour, shape, background and size are each right or wrong."
    )
    return join(notes("The arms", arms), notes("What to look at", [seen, *common]))


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
        ("Preferences", f"mean exact score of what was trained on. {'; '.join(sets)}"),
        ("Runs", "one training run per arm: the intervals are over prompts, not over training seeds"),
    ]
    return [facts(known)]


def _timings(timings: Sequence[tuple[str, float]], workers: int) -> Html:
    rows = [Row([Cell(name), number(seconds, 1)]) for name, seconds in timings]
    return table(["step", "seconds"], rows, f"Wall time; up to {workers} at a time.", class_="narrow")
