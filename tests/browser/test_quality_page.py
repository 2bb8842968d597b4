"""A quality report in Debian's chromium: it draws, sorts by gain, plays, and asks nothing of the network."""

from pathlib import Path

from benchmarks.evaluation.folder import Plan, PlanFolder
from benchmarks.evaluation.generate import generate
from benchmarks.evaluation.report.files import write_report
from benchmarks.evaluation.score import score
from tests.benchmarks.quality.fake import FakeJudge, FakeSampler, entry, prompt_set, protocol
from tests.browser.browsing import NEEDED, found_in

pytestmark = NEEDED

ATTACK = " <img src=x onerror=problems.push('attack')>"
PROBE = """
<script>
window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message)), true);
addEventListener("securitypolicyviolation", (event) => problems.push("policy: " + event.blockedURI));
addEventListener("load", () => setTimeout(() => {
  const grid = document.querySelector("table.grid");
  const gains = () => [...grid.tBodies[0].rows].map((row) => Number(row.cells[2].dataset.sort));
  grid.tHead.rows[0].cells[2].querySelector("button").click();
  const falling = gains();
  const first = grid.tBodies[0].rows[0].cells[3].textContent;
  const clips = [...document.querySelectorAll(".clip")].flatMap((clip) => clip.getAnimations());
  const result = document.createElement("pre");
  result.id = "probe";
  result.textContent = JSON.stringify({
    problems, falling, first,
    tables: document.querySelectorAll("table").length,
    charts: document.querySelectorAll("figure.chart svg").length,
    rects: document.querySelectorAll("figure.chart rect").length,
    pictures: [...document.images].map((image) => image.complete && image.naturalWidth > 0),
    clips: clips.length, playing: clips.every((clip) => clip.playState === "running"),
    requests: performance.getEntriesByType("resource").map((e) => e.name).filter((name) => !name.startsWith("data:")),
    cut: [...document.querySelectorAll(".wide")].filter((box) => box.scrollWidth > box.clientWidth).length,
    largest: Math.max(...[...document.querySelectorAll("figure.chart svg")].map((chart) => chart.clientWidth)),
    order: [...document.querySelectorAll("h2")].map((heading) => heading.textContent),
    wide: document.documentElement.scrollWidth > innerWidth,
    text: document.body.innerText,
  });
  document.body.append(result);
}, 300));
</script>
"""


def browse(page: Path, folder: Path, width: int = 1240) -> dict:
    probed = folder / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("<title>", PROBE + "<title>", 1), encoding="utf-8")
    return found_in(probed, folder / "profile", width)


def report(root: Path, kind: str, size: int) -> Path:
    folder = PlanFolder(root / "out", root / "cache")
    prompts = prompt_set(20, kind, ATTACK)
    frames = 1 if kind == "image" else 8
    asked = protocol(kind, frames=frames)
    plan = folder.open(Plan(asked, prompts, tuple(entry(f"{name}{ATTACK}"[:60]) for name in ("base", "tuned"))))
    for number, model in enumerate(plan.models):
        sampler = FakeSampler(size=size, frames=frames, broken=[prompts.texts[3]] if number else [])
        draw = sampler._frames
        # brighter or darker by prompt: wins and losses
        sampler._frames = lambda job, n=number, draw=draw: (
            (draw(job).float() * (1 + n * (3 - job.seed % 7) / 10)).clamp(max=255).byte()
        )
        generate(folder.samples(model), prompts.prompts, asked, lambda s=sampler: s, {}, batch_size=1)
    score(folder, plan, "clip_score", lambda: PerKind(kind), None)
    write_report(folder)
    return folder.folder / "index.html"


class PerKind(FakeJudge):
    """Names its columns as a scorer on pictures or on frames does."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def values(self, samples):
        found = super().values(samples)
        if self.kind == "image":
            return found
        return [{f"clip_score_frame_{part}": v["clip_score"] for part in ("mean", "min", "sd")} for v in found]


def test_pictures(tmp_path):
    page = report(tmp_path, "image", 80)
    found = browse(page, tmp_path, 1400)
    assert found["problems"] == [] and found["requests"] == []
    # nothing is cut off, no chart is blown up, and pictures come before differences
    assert found["cut"] == 0 and found["largest"] <= 600
    assert found["order"].index("Samples") < found["order"].index("Differences")
    assert found["pictures"] and all(found["pictures"]) and found["clips"] == 0
    assert found["falling"] == sorted(found["falling"], reverse=True) and found["first"].startswith("win of tuned")
    # one chart of bars by the one category, with a bar per value; one distribution
    assert found["charts"] == 2 and found["rects"] == 2
    for expected in ("onerror", "no sample", "samples failed", "How this differs from the paper"):
        assert expected in found["text"]
    assert not browse(page, tmp_path, width=500)["wide"]


def test_clips(tmp_path):
    found = browse(report(tmp_path, "video", 24), tmp_path)
    assert found["problems"] == [] and found["requests"] == []
    assert found["clips"] > 20 and found["playing"]
