"""The demo's page in Debian's chromium: it draws, it sorts, it plays, and asks nothing of the network."""

from pathlib import Path

import pytest

from tests.benchmarks.demo_folder import write_finished, write_reports
from tests.browser.browsing import NEEDED, found_in

pytestmark = NEEDED

PROBE = """
<script>
window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message)), true);
addEventListener("securitypolicyviolation", (event) => problems.push("policy: " + event.blockedURI));
addEventListener("load", () => setTimeout(() => {
  const grid = document.querySelector("table.grid");
  const prompts = () => [...grid.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const table = document.querySelector("table.sortable");
  const column = (index) => [...table.tBodies[0].rows].map((row) => Number(row.cells[index].dataset.sort));
  table.tHead.rows[0].cells[1].querySelector("button").click();
  const falling = column(1);
  table.tHead.rows[0].cells[1].querySelector("button").click();
  const rising = column(1);
  const before = prompts();
  grid.tHead.rows[0].cells[0].querySelector("button").click();
  const clips = [...document.querySelectorAll(".clip")].flatMap((clip) => clip.getAnimations());
  const player = document.querySelector(".player");
  const slider = player && player.querySelector(".frame");
  const times = clips.map((clip) => clip.currentTime);
  if (slider) { slider.value = 3; slider.dispatchEvent(new Event("input")); }
  const positions = [...document.querySelectorAll(".clip")].map((clip) =>
    [parseFloat(getComputedStyle(clip).backgroundPositionX), parseFloat(getComputedStyle(clip).width)]);
  const found = {
    problems, falling, rising, before, after: prompts(),
    tables: document.querySelectorAll("table").length,
    charts: document.querySelectorAll("figure.chart svg").length,
    pictures: [...document.images].map((image) => image.complete && image.naturalWidth > 0),
    clips: clips.length, playing: clips.every((clip) => clip.playState !== "idle"),
    spread: times.length ? Math.max(...times) - Math.min(...times) : null,
    frames: positions.map(([x, width]) => Math.round(-x / width)),
    player: player && !player.hidden,
    requests: performance.getEntriesByType("resource").map((e) => e.name).filter((name) => !name.startsWith("data:")),
    wide: document.documentElement.scrollWidth > innerWidth,
    text: document.body.innerText,
  };
  const result = document.createElement("pre");
  result.id = "probe";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
}, 300));
</script>
"""


def browse(page: Path, folder: Path, width: int = 1240) -> dict:
    """What the page looks like from inside, after it was clicked through."""
    probed = folder / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("<title>", PROBE + "<title>", 1), encoding="utf-8")
    return found_in(probed, folder / "profile", width)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    attack = "<img src=x onerror=problems.push('attack')>"
    write_finished(out, "image", rename=lambda prompt: f"{prompt} {attack}")
    write_finished(out, "video")
    write_reports(out, ("image", "video"))
    return out / "index.html"


@pytest.fixture(scope="module")
def found(page, tmp_path_factory) -> dict:
    return browse(page, tmp_path_factory.mktemp("browser"))


def test_page_draws_sorts_and_plays(found):
    assert found["problems"] == []
    assert found["requests"] == []
    assert found["tables"] == 7 and found["charts"] == 8
    # grids of 8 and of 6 prompts x 6 arms, as pictures and as clips
    assert len(found["pictures"]) == 84 and all(found["pictures"])
    assert found["clips"] == 84 and found["playing"] and found["player"]
    assert found["falling"] == sorted(found["falling"], reverse=True)
    assert found["rising"] == sorted(found["rising"])
    assert found["after"] == sorted(found["before"])
    assert "onerror" in found["text"]


def test_clips_play_in_step_and_stop_at_one_frame(found):
    assert found["spread"] < 1
    assert set(found["frames"]) == {3}


def test_page_fits_a_narrow_window(page, tmp_path):
    assert not browse(page, tmp_path, width=500)["wide"]
