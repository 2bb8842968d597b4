"""A run's page and a page of two runs in Debian's chromium: every tile shows its own sample, nothing is wider than the
window, and nothing is asked of the network."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seppo_core.report.run_page import write_run_page
from seppo_image.__main__ import main
from tests.browser.browsing import CHROMIUM, NEEDED, found_in
from tests.report.run_folder import COLUMNS, PROMPTS, colour, write_run

pytestmark = NEEDED

PROBE = """
<script>
window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message)), true);
addEventListener("securitypolicyviolation", (event) => problems.push("policy: " + event.blockedURI));
addEventListener("load", () => setTimeout(() => {
  const box = (one) => { const r = one.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; };
  const found = {
    problems,
    tiles: [...document.querySelectorAll(".sides .tile")].map((one) => [one.getAttribute("aria-label"), ...box(one)]),
    charts: document.querySelectorAll("figure.chart svg").length,
    bold: document.querySelectorAll("h3 b").length,
    inner: [...document.querySelectorAll("body *")].filter((one) => one.scrollWidth > one.clientWidth + 1
      && ["auto", "scroll"].includes(getComputedStyle(one).overflowX)).map((one) => one.className),
    requests: performance.getEntriesByType("resource").map((entry) => entry.name),
    wide: document.documentElement.scrollWidth > innerWidth,
    window: innerWidth,
  };
  parent.postMessage(JSON.stringify(found), "*");
}, 300));
</script>
"""
AROUND = """<!doctype html><body style="margin: 0">
<iframe src="probed.html" width="WIDTH" height="5000" style="border: 0" scrolling="no"></iframe><script>
addEventListener("message", (event) => {
  const result = document.createElement("pre");
  result.id = "probe";
  result.textContent = event.data;
  document.body.append(result);
});
</script></body>"""
"""A window around the page: headless chromium makes none of less than 500 pixels."""


def probed(page: Path) -> Path:
    """The page with a script in it, beside it, so that its files are found."""
    path = page.with_name("probed.html")
    path.write_text(page.read_text(encoding="utf-8").replace("<title>", PROBE + "<title>", 1), encoding="utf-8")
    return path


def picture_of(page: Path, folder: Path, width: int, height: int) -> np.ndarray:
    """What a window of that size shows."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder / 'p'}",
        f"--window-size={width},{height}", "--virtual-time-budget=3000", f"--screenshot={folder / 'shot.png'}",
        page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=300, check=True)
    return np.asarray(Image.open(folder / "shot.png").convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def run_page(tmp_path_factory) -> Path:
    return probed(write_run_page(write_run(tmp_path_factory.mktemp("run") / "run", size=64)))


@pytest.fixture(scope="module")
def compare_page(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("compare")
    runs = [str(write_run(root / name, updates=updates, size=64)) for name, updates in (("one", 8), ("other", 4))]
    assert main(["compare", *runs, "--out", str(root / "out")]) == 0
    return probed(root / "out" / "index.html")


@pytest.mark.parametrize("width", [400, 1300])
@pytest.mark.parametrize(("kind", "updates"), [("run_page", (0, 8)), ("compare_page", (8, 4))])
def test_every_tile_shows_its_own_sample(kind, updates, width, request, tmp_path):
    page = request.getfixturevalue(kind)
    window = page.with_name(f"window-{width}.html")
    window.write_text(AROUND.replace("WIDTH", str(width)))
    found = found_in(window, tmp_path / "profile", 1400, 5000)
    assert found["problems"] == [] and found["window"] == width
    assert not found["wide"] and found["inner"] == []
    assert found["bold"] == 0, "a prompt became markup"
    assert found["charts"] >= 3
    assert all(name.startswith(page.parent.as_uri()) for name in found["requests"])
    assert len(found["tiles"]) == len(PROMPTS) * 2 * COLUMNS
    shown, places = picture_of(window, tmp_path, 1400, 5000), iter(found["tiles"])
    for row, prompt in enumerate(PROMPTS):
        for update in updates:
            for column in range(COLUMNS):
                label, x, y, w, h = next(places)
                assert prompt in label
                # its middle, and close to every corner, where a neighbour would show
                for across, down in ((0.5, 0.5), (0.06, 0.06), (0.94, 0.06), (0.06, 0.94), (0.94, 0.94)):
                    pixel = shown[int(y + down * h), int(x + across * w)]
                    assert np.abs(pixel - colour(update, row, column)).max() <= 1, (label, column, across, down)
