"""The speed benchmark's page in Debian's chromium: it draws, sorts, fits a phone, and asks nothing of the network."""

from pathlib import Path

from benchmarks.experiments.speed.memory import Memory
from benchmarks.experiments.speed.page import speed_page
from benchmarks.experiments.speed.report import Report
from benchmarks.experiments.speed.results import Result, measured
from benchmarks.experiments.speed.stage import Left
from benchmarks.experiments.speed.timing import Times, Variant
from seppo_core.report.page import save_page
from tests.browser.browsing import NEEDED, found_in

pytestmark = NEEDED

ATTACK = "<img src=x onerror=problems.push('attack')>"
PROBE = """
<script>
window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message)), true);
addEventListener("securitypolicyviolation", (event) => problems.push("policy: " + event.blockedURI));
addEventListener("load", () => setTimeout(() => {
  const table = document.querySelector("table.sortable");
  const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.sort));
  const heading = table.tHead.rows[0].cells[1].querySelector("button");
  heading.click();
  const falling = column();
  heading.click();
  const result = document.createElement("pre");
  result.id = "probe";
  result.textContent = JSON.stringify({
    problems, falling, rising: column(),
    tables: document.querySelectorAll("table").length,
    charts: document.querySelectorAll("figure.chart svg").length,
    bars: document.querySelectorAll("svg.interval").length,
    requests: performance.getEntriesByType("resource").length,
    wide: document.documentElement.scrollWidth > innerWidth,
    text: document.body.innerText,
  });
  document.body.append(result);
}, 300));
</script>
"""


def report() -> Report:
    """Two comparisons with made-up times, on a base with a nasty name."""
    seconds = {
        "micro-batches of 1": [4.0, 4.1, 3.9],
        "micro-batches of 2": [3.0, 3.1, 2.9],
        "micro-batches of 4": [2.5] * 3,
    }
    times = [
        Times(Variant(name, lambda: None, note=f"{name} {ATTACK}"), values, 5.0) for name, values in seconds.items()
    ]
    memory = {name: Memory(10**8, place * 10**7, None) for place, name in enumerate(seconds, 1)}
    subject = f"{ATTACK}, 16 x 16"
    left = (Left("xformers", f"it needs {ATTACK}"),)
    common = {"subject": subject, "wanted_rounds": 3, "warmup": 1, "remarks": ("a remark",), "elapsed": 9.0}
    results = (
        Result("accumulation", "Micro-batches", "Why?", variants=measured(times, memory), left=(), **common),
        Result("attention", "Attention", "Why not?", variants=measured(times[:2], {}), left=left, **common),
    )
    settings = {
        "comparisons": ["accumulation", "attention", "cache"], "rounds": 3, "warmup": 1, "device_name": "CPU",
        "threads": 1, "cores": 2, "load": 1.9, "memory": "counted",
    }  # fmt: skip
    return Report(results, True, settings, {"commit": "0123456789", "command": f"python {ATTACK}"})


def browse(folder: Path, width: int) -> dict:
    page = folder / "index.html"
    save_page(page, speed_page(report()))
    page.write_text(page.read_text(encoding="utf-8").replace("<title>", PROBE + "<title>", 1), encoding="utf-8")
    return found_in(page, folder / "profile", width)


def test_page_draws_and_sorts(tmp_path):
    found = browse(tmp_path, 1240)
    assert found["problems"] == [] and found["requests"] == 0 and not found["wide"]
    # two of sizes, and the rounds of each comparison
    assert (found["tables"], found["charts"], found["bars"]) == (2, 4, 5)
    assert found["falling"] == sorted(found["falling"], reverse=True) and found["rising"] == found["falling"][::-1]
    assert "onerror" in found["text"] and "it needs <img" in found["text"]
    assert "broken off before cache" in found["text"] and "The machine was busy" in found["text"]


def test_page_fits_a_narrow_window(tmp_path):
    assert not browse(tmp_path, 500)["wide"]
