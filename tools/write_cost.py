"""Writes docs/cost.md from the measurements in benchmarks/results: `python -m tools.write_cost`."""

import json
from pathlib import Path
from typing import Any

from benchmarks.experiments.lora_memory import FILE, FORMS, GIB, NAMES
from benchmarks.experiments.speed import plain_table
from benchmarks.experiments.speed.bench import RECOMPUTED
from benchmarks.experiments.speed.plain_run import summary
from benchmarks.gpu import results as gpu
from seppo_core.io.atomic import save_text
from seppo_core.report.text_table import markdown_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "cost.md"
Record = dict[str, Any]
CPU = "CPU"
SHARES = {"lora": 0.6, "nf4": 0.35}
"""The most of the plain way's memory that a form is to take."""
SHARED = ("9e3fb67a31",)
"""Commits whose runs had other work beside them."""
TOY = "toy "
"""How the subjects are called whose models are too small to say what a real one costs."""

HEAD = """\
# What an update costs

Whether a run fits a card, and what to turn on if it does not, is said in [Memory and time](memory.md). This page holds
an update here against the *plain way*: that of a published training script, which keeps a second full copy of the
denoiser as reference and encodes pictures and captions in every step.

{where} `python -m tools.write_cost` writes this page from the JSON in
`benchmarks/results`, which holds every round, commit and version.

"""
ON_CPU = """\
Measured on a CPU, for no GPU was there: ratios of times and shares of memory, not hours. A GPU's kernels differ, and
`python -m benchmarks gpu` measures the same there."""
ON_BOTH = """\
Rows that name a GPU were measured on it; all others were measured on a CPU, and are good for ratios of times and
shares of memory, not for hours."""
GOALS = """\
## Goals

An iteration of SePPO is mostly the drawing of samples. The plain way's solver takes 50 passes of the denoiser for one
(51 with SD-1.5's own), ours 20, so that drawing alone is 2.5 times as fast; what the plain way encodes and decodes adds
to that, what both ways share takes from it. Fewer steps (`reference_samples.steps: 10`, after which SePPO scores as
after 20 or 50 on the embedded task) or guidance in some of them (`reference_samples.guidance_interval`) change that,
and the samples with it ([what it does](memory.md#draws-that-come-again)).

Ours computes what the bare update computes, so that values below 0, or above 1 in the first column, are noise: with two
or three rounds a few percent are not told apart. A row's memory is that of its timed updates, counted tensor by tensor;
the second table has what the system saw, with recomputed activations.

"""
SPEED = """\
## Beside the plain way

`python -m benchmarks speed --plain --base ID` times four updates in turn: *ours*, DPO on pairs that are read from a
cache on the disk; the *plain* way of a published script, with a second full copy of the denoiser as reference, and
pictures and captions encoded in every step; *bare*, the arithmetic of the plain way's update alone with all inputs at
hand; and our *SFT*. All have one concatenated forward pass for each network, the same precision and the same
attention kernels. Random weights of the published sizes; times are processor seconds, summed over threads, or seconds
of the GPU that the row names, medians of the rounds with their range.

- *Plain / ours* above 1: ours is faster. *By bare arithmetic* is what this ratio would be if ours took no longer than
  the bare update; *by FLOPs*, if every FLOP took the same time too: large convolutions, as in a VAE, are faster. The
  plain way's encoding is done once in ours, by `prepare`, which is not in these times: an item that is used once in a
  whole run gains nothing from the cache.
- *With samples*: the reference draws a counterpart for each pair too, with guidance; ours in 20 steps of DPM-Solver++,
  or of a flow's own solver, the plain way in 50 steps of the pipeline's own, decoded. Two steps are timed, and counted
  up.
- *DPO / SFT by passes*: a LoRA's backward pass costs one forward pass, that of all weights two: 6 to 2, or 8 to 3.
  Where activations are recomputed (`--gradient-checkpointing`), in all ways alike, it costs one more: 8 to 3.
  While reading weights decides, a pass over two items takes less than two over one, and the ratio is below that.
- Encoding pictures and captions (*data*) takes 33 to 40 % of the plain way's update of SD-1.5 and SDXL with a LoRA and
  80 % of Sana's, more than its share of the FLOPs, so that a step gains more than the FLOPs would allow. Of clips it
  takes 6 to 34 %, about its share of the FLOPs or less.
- AnimateDiff at 16 x 256 x 256 has 7 GiB of activations in both ways, so that ours saves less: of its motion modules,
  diffusers recomputes those of the middle block alone. Of the plain way of LTX and Wan the text encoder is 8.9 GiB of
  18.4 and 11 of 16.6.
- With all weights our reference is in float32 like the policy, so that equal weights tie exactly, and the plain way's
  in bf16: ours takes more memory, and every pass of a sample casts the weights once more.

"""
MEMORY = """\
## Memory of a LoRA's update

`python -m benchmarks memory`: one update of one pair with recomputed activations in a process of its own; the most
that the system saw of it, less what it held before there was a model, beside what `plan` counts for the same config.
Pictures have the size that the base was published for. *Of the plain way's* holds it against an update with a second
full copy, VAE and text encoders in memory, whose peak is the encoding of its two pictures (*: as counted). An offloaded
base is in the same memory here; *on the GPU* is what `plan` counts there. Matrices and convolutions of blocks are kept
in fewer bits: two thirds of SD-1.5's weights are convolutions.

"""
ON_A_GPU = """\
## Memory on a GPU

`python -m benchmarks gpu`: the allocator's peak in one update of one pair with recomputed activations
(`torch.cuda.max_memory_allocated`), beside what `plan` counts without CUDA's own context, which no allocator sees.

"""


LEFT = """\
## Not measured

- Wan and LTX at their usual size, which takes a CPU hours; the plain way of Wan at 17 x 256 x 256 took more than the 24
  GB of this machine, for its text encoder alone has 11 GiB. Larger bases. `speed --plain --published` lists what fits a
  machine.
"""
NO_GPU = "- A GPU: `python -m benchmarks gpu` measures the same tables there.\n"


def speed_results() -> list[Record]:
    """The newest result of each subject on each device, the small models first; a GPU's row names it."""
    found: dict[tuple[str, str], Record] = {}
    for file in sorted((RESULTS / "speed").glob("plain-*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        one = content["result"] | {"origin": content["origin"], "summary": summary(content["result"])}
        case = (one["subject"], device(one))
        kept = found.get(case)
        if kept is None or kept["origin"]["started"] < one["origin"]["started"]:
            found[case] = one if case[1] == CPU else one | {"subject": ", on ".join(case)}
    return sorted(found.values(), key=lambda one: (not one["subject"].startswith(TOY), one["subject"]))


def device(one: Record) -> str:
    return one["origin"].get("device") or CPU


def memory_results() -> dict[str, dict[str, Record]]:
    file = RESULTS / "memory" / FILE
    return json.loads(file.read_text(encoding="utf-8"))["cases"] if file.is_file() else {}


def page() -> str:
    speed, memory, on_gpu = speed_results(), memory_results(), gpu.newest(RESULTS / "gpu")
    seen = any(device(one) != CPU for one in [*speed, *on_gpu])
    tables = "\n\n".join("\n".join(of(speed)) for of in (plain_table.ratios, plain_table.splits, plain_table.memory))
    measured = [*speed, *on_gpu, *(one for forms in memory.values() for one in forms.values())]
    runs = sorted({run(one) for one in measured})
    gpu_memory = ON_A_GPU + "\n".join(gpu.table(on_gpu)) + "\n\n" if on_gpu else ""
    return (
        HEAD.format(where=ON_BOTH if seen else ON_CPU) + in_short(speed, memory) + GOALS
        + "\n".join(time_goals(speed)) + "\n\n" + "\n".join(memory_goals(memory)) + "\n\n" + SPEED
        + tables + "\n\n" + MEMORY + "\n".join(memory_table(memory)) + "\n\n" + gpu_memory + LEFT
        + ("" if seen else NO_GPU) + "\nRun " + "; ".join(runs) + ".\n"
    )  # fmt: skip


def run(one: Record) -> str:
    """Day, commit and machine of a measurement."""
    o, name = one["origin"], device(one)
    cores = "one core" if o["cores"] == 1 else f"{o['cores']} cores"
    machine = f"{cores} of an {o['processor']}" if name == CPU else f"one {name}"
    return f"{o['started'][:10]} at `{o['commit']}`, {machine}{', beside other work' if o['commit'] in SHARED else ''}"


def in_short(speed: list[Record], memory: dict[str, dict[str, Record]]) -> str:
    """What bases of published sizes show with a LoRA, from the lowest to the highest figure."""
    lora = [one for one in speed if not one["subject"].startswith(TOY) and one["tune"] == "lora"]
    real = [one["summary"] for one in lora]
    shares = [share(forms, "lora")[0] for forms in memory.values() if "lora" in forms and share(forms, "lora")]
    shares += [one["summary"]["memory_share"] for one in lora if RECOMPUTED in one["subject"]]

    def span(values: list[float], digits: int) -> str:
        return f"{min(values):.{digits}f} to {max(values):.{digits}f}"

    updates = span([one["step_ratio"]["median"] for one in real], 1)
    iterations = span([one["iteration_ratio"]["median"] for one in real], 1)
    return (
        f"In short, with a LoRA on bases of published sizes: an update is {updates} times as fast as the plain\n"
        f"way's, an iteration with its samples {iterations} times. With recomputed activations an update takes\n"
        f"{span(shares, 2)} of the plain way's memory, and less with a base in fewer bits.\n\n"
    )


def time_goals(speed: list[Record]) -> list[str]:
    """What was measured of each goal of time, bases of published sizes alone."""
    head = [
        "base", "a step gains, of what its arithmetic allows (at least .97)", "over the bare arithmetic (at most .03)",
        "an iteration with samples (at least 3)", "the same where ours takes 10 steps",
        "a LoRA's memory, of the plain way's (at most .6)", "rounds",
    ]  # fmt: skip
    rows = []
    for one in speed:
        if one["subject"].startswith(TOY):
            continue
        s = one["summary"]
        step, overhead = s["share_of_arithmetic"], s["overhead"]["median"] - 1
        iteration, shorter = s["iteration_ratio"]["median"], _with_half_the_steps(s)
        gain, most = s["step_ratio"]["median"], s["arithmetic"]["median"]
        low, high = (value - 1 for value in s["overhead"]["interval"])
        rows.append([
            one["subject"].replace(" of rank 16", ""),
            verdict(step >= 0.97, step, f"{gain:.2f} of {most:.2f}, by FLOPs {s['bound']:.2f}"),
            verdict(overhead <= 0.03, overhead, f"{low:.3f} to {high:.3f}"),
            verdict(iteration >= 3, iteration, f"FLOPs allow {s['iteration_bound']:.2f}"),
            verdict(shorter >= 3, shorter),
            verdict(s["memory_share"] <= SHARES["lora"], s["memory_share"]) if one["tune"] == "lora" else "",
            str(len(one["updates"]["ours"])),
        ])  # fmt: skip
    return markdown_table(head, rows)


def memory_goals(memory: dict[str, dict[str, Record]]) -> list[str]:
    """A LoRA's memory as a share of the plain way's, with its goals."""
    rows = []
    for forms in memory.values():
        row = []
        for form, most in SHARES.items():
            found = share(forms, form) if form in forms else None
            if found is None:
                row.append("")
                continue
            counted = f"plan counts {forms[form]['planned'] / forms['plain']['planned']:.2f}"
            counted += "" if found[1] else ", the plain way as counted"
            row.append(verdict(found[0] <= most, found[0], counted))
        first = next(iter(forms.values()))
        rows.append([f"{first['subject']}, {first['size']}, {first['precision']}", *row])
    names = [f"{FORMS[form].title} (at most {most})" for form, most in SHARES.items()]
    return markdown_table(["memory, of the plain way's", *names], rows)


def verdict(met: bool, value: float, beside: str = "") -> str:
    """A figure, whether it meets its goal, and what stands beside it."""
    return f"{value:.3f}, {'met' if met else 'not met'}" + (f" ({beside})" if beside else "")


def share(forms: dict[str, Record], form: str) -> tuple[float, bool] | None:
    """Measured memory as a share of the plain way's, and whether that was measured too."""
    one, plain = forms[form], forms.get("plain")
    if plain is None or "measured" not in one:
        return None
    return one["measured"] / plain.get("measured", plain["planned"]), "measured" in plain


def _with_half_the_steps(figures: Record) -> float:
    """Plain to ours where drawing ours takes half of its 20 passes."""
    update, drawing = figures["update_seconds"], figures["drawing_seconds"]
    return (update["plain"] + drawing["plain"]) / (update["ours"] + drawing["ours"] / 2)


def memory_table(memory: dict[str, dict[str, Record]]) -> list[str]:
    head = ["base", "form", "measured (GiB)", "plan (GiB)", "measured / plan", "of the plain way's", "on the GPU (GiB)"]
    rows = []
    for name in NAMES:
        forms = memory.get(name, {})
        for place, (form, one) in enumerate(forms.items()):
            told = f"{one['measured'] / GIB:.2f}" if "measured" in one else one.get("failed") or one["not_run"]
            of_plain = None if form == "plain" else share(forms, form)
            there = one["planned"] - one["parts"].get("blocks that wait", 0)
            rows.append([
                "" if place else f"{one['subject']}, {one['size']}, {one['precision']}", FORMS[form].title,
                told,
                f"{one['planned'] / GIB:.2f}", f"{one['share']:.2f}" if "share" in one else "",
                "" if of_plain is None else f"{of_plain[0]:.2f}{'' if of_plain[1] else '*'}", f"{there / GIB:.2f}",
            ])  # fmt: skip
    return markdown_table(head, rows)


if __name__ == "__main__":
    save_text(PAGE, page())
    print(f"written: {PAGE.relative_to(ROOT)}")
