"""What `speed --plain` measured, as Markdown; a result is the JSON of one subject."""

from collections.abc import Sequence
from typing import Any

from benchmarks.experiments.speed.measuring import GIB
from benchmarks.experiments.speed.plain import PARTS
from seppo_core.report.text_table import markdown_table

Record = dict[str, Any]


def table(results: Sequence[Record]) -> str:
    """All tables, for the terminal."""
    return "\n\n".join("\n".join(of(results)) for of in (ratios, splits, memory))


def ratios(results: Sequence[Record]) -> list[str]:
    """Ratios of times beside those of FLOPs, a row a subject."""
    head = [
        "subject", "rounds", "update: plain / ours", "by bare arithmetic", "by FLOPs", "ours / bare arithmetic",
        "with samples", "by FLOPs", "DPO / SFT", "by FLOPs", "by passes", "FLOPs a second, of a matrix product's",
    ]  # fmt: skip
    rows = []
    for one in results:
        s = one["summary"]
        dpo = s["dpo_over_sft_bound"]
        rows.append([
            one["subject"], str(len(one["updates"]["ours"])), spread(s["step_ratio"]), spread(s["arithmetic"]),
            f"{s['bound']:.2f}", spread(s["overhead"], 3), spread(s["iteration_ratio"]),
            f"{s['iteration_bound']:.2f}", spread(s["dpo_over_sft"]), f"{dpo['flops']:.2f}", f"{dpo['passes']:.2f}",
            f"{s['utilisation']['ours']:.0%}",
        ])  # fmt: skip
    return markdown_table(head, rows)


def splits(results: Sequence[Record]) -> list[str]:
    """Seconds of an update by part, and of drawing its counterparts; a row for each way of a subject."""
    head = ["subject", "way", "pairs/s", "update (s)", *PARTS, "drawing (s)"]
    rows = []
    for one in results:
        s = one["summary"]
        for name, parts in s["splits"].items():
            drawing = s["drawing_seconds"].get(name)
            rows.append([
                one["subject"] if name == "ours" else "", name, f"{s['pairs_per_second'][name]:.3g}",
                f"{s['update_seconds'][name]:.3g}", *(f"{parts[part]:.3g}" for part in PARTS),
                "" if drawing is None else f"{drawing:.3g}",
            ])  # fmt: skip
    return markdown_table(head, rows)


def memory(results: Sequence[Record]) -> list[str]:
    """GiB at the peak of an update by part; a row for each way of a subject."""
    names = ["policy", "reference", "VAE", "text encoders", "moments", "gradients", "activations"]
    head = ["subject", "way", "peak (GiB)", "of the plain way's", *names]
    rows = []
    for one in results:
        for name, found in one["memory"].items():
            share = one["summary"]["memory_share"] if name == "ours" else None
            parts = [found["parts"].get(part) for part in names]
            rows.append([
                one["subject"] if name == "ours" else "", name, f"{found['peak'] / GIB:.3g}",
                "" if share is None else f"{share:.2f}",
                *("" if size is None else f"{size / GIB:.2g}" for size in parts),
            ])  # fmt: skip
    return markdown_table(head, rows)


def spread(of: Record, places: int = 2) -> str:
    """A median with the interval of its rounds."""
    low, high = of["interval"]
    return f"{of['median']:.{places}f} ({low:.{places}f} to {high:.{places}f})"
