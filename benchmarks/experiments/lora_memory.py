"""`python -m benchmarks memory`: peak memory of a LoRA's update by form, as the system counts it."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from seppo_core.io.atomic import save_json

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "memory"
FILE = "lora.json"
KIND, FORMAT = "seppo-lora-memory", 1
GIB = 1024**3
CASES = {
    "sd15": ("stable-diffusion-v1-5", 512),
    "sdxl": ("stable-diffusion-xl-base-1.0", 1024),
    "sana": ("Sana_600M_1024px_diffusers", 1024),
}
"""Bases by the name that `--only` takes, and the side of their pictures, that of the published base."""
PRECISIONS = ("bf16", "fp32")


def name_of(case: str, precision: str) -> str:
    """What the results of a case are stored under."""
    return case if precision == PRECISIONS[0] else f"{case}-{precision}"


NAMES = [name_of(case, precision) for case in CASES for precision in PRECISIONS]


@dataclass(frozen=True)
class Form:
    """How an update is done, and what of it the options of `benchmarks.gpu.memory` say."""

    title: str
    options: tuple[str, ...] = ()
    quantize: str | None = None
    offload: bool = False
    plain: bool = False


FORMS = {
    "plain": Form("the plain way", ("--plain",), plain=True),
    "lora": Form("LoRA"),
    "int8wo": Form("LoRA on int8wo", ("--quantize", "int8wo"), quantize="int8wo"),
    "nf4": Form("LoRA on nf4", ("--quantize", "nf4"), quantize="nf4"),
    "offload": Form("LoRA, offloaded base", ("--offload",), offload=True),
}


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 1 if a measurement failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks memory",
        description="Measures the peak memory of one update with recomputed activations, in a process of its own for "
        "each form, beside what `plan` counts. Random weights of the published sizes; nothing is downloaded. "
        "Forms in fewer bits need the extra `quantize`.",
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="CASE", choices=list(CASES), default=list(CASES), help=", ".join(CASES))
    add("--forms", nargs="+", metavar="FORM", choices=list(FORMS), default=list(FORMS), help=", ".join(FORMS))
    add(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="of weights and activations (%(default)s, in which CPUs without its instructions compute very slowly)",
    )
    add("--limit", type=float, default=18, metavar="GIB", help="what is planned above it is not run (%(default)s)")
    add("--out", type=Path, default=RESULTS, help="folder of the JSON; other results stay (benchmarks/results/memory)")
    asked = parser.parse_args(sys.argv[1:] if argv is None else argv)
    asked.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for case in asked.only:
        for form in asked.forms:
            result = measured(case, form, asked.precision, asked.limit)
            if result is None:
                continue
            failed += "failed" in result
            name = name_of(case, asked.precision)
            save(asked.out / FILE, name, form, result)
            print(f"{name}, {form}: {told(result)}", flush=True)
    return 1 if failed else 0


def measured(case: str, form: str, precision: str, limit: float) -> dict[str, Any] | None:
    """One form of a case; None if the family has no such form."""
    # imported late: a mistake in the call should be told before torch loads
    from benchmarks.gpu.memory import config_of, planned
    from seppo_core.report.provenance import provenance

    how = FORMS[form]
    subject, costs = costs_of(case, precision, how.plain)
    try:
        config = config_of(subject, precision, how.quantize, how.offload)
    except ValueError:
        return None
    parts = planned(config, costs, how.plain)
    whole = sum(parts.values())
    result = {
        "subject": subject.title, "size": subject.size, "precision": precision, "planned": whole, "parts": parts,
        "origin": {name: value for name, value in provenance().items() if value is not None},
    }  # fmt: skip
    if whole > limit * GIB:
        return result | {"not_run": f"it takes {whole / GIB:.1f} GiB, more than the {limit:g} that were allowed"}
    base, side = CASES[case]
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.gpu.memory", "--system", "--base", base, "--height", str(side),
             "--dtype", precision, *how.options, "--out", out],
            cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            return result | {"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
        found = read(next(Path(out).glob("memory-*.json")))
    taken = {name: found[name] for name in ("measured", "idle", "seconds")}
    return result | taken | {"share": found["measured"] / whole}


@cache
def costs_of(case: str, precision: str, plain: bool):
    """The subject of a case and what `plan` counts of its step, of the plain way's with encoding."""
    from benchmarks.experiments.speed.models import find_subject
    from benchmarks.gpu.memory import config_of
    from seppo_core.plan.measure import measure

    base, side = CASES[case]
    subject = replace(find_subject(base, height=side, width=side, tune="lora", batch=1), batch=1)
    return subject, measure(config_of(subject, precision), only_step=not plain)


def environment() -> dict[str, str]:
    """What is freed goes back to the system at once, so that its count is of what is alive."""
    return {
        **os.environ, "HF_HUB_OFFLINE": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_ARENA_MAX": "2",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def save(path: Path, name: str, form: str, result: dict[str, Any]) -> None:
    """Puts one result beside those that are there."""
    cases = read(path).get("cases", {})
    cases.setdefault(name, {})[form] = result
    ordered = {name: {f: cases[name][f] for f in FORMS if f in cases[name]} for name in NAMES if name in cases}
    save_json(path, {"kind": KIND, "format": FORMAT, "cases": ordered})


def told(result: dict[str, Any]) -> str:
    if "measured" in result:
        return f"{result['measured'] / GIB:.2f} GiB, {result['share']:.2f} of what plan counts"
    return result.get("failed") or result["not_run"]


if __name__ == "__main__":
    sys.exit(main())
