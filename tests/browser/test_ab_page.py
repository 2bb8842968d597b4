"""The judges' page in Debian's chromium: voting by key and by click, going back, saving, going on after a reload."""

import csv
import io
import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.evaluation.human.page import ab_page
from benchmarks.evaluation.human.pairs import Pair, Study
from benchmarks.evaluation.human.votes import count_votes, read_votes
from tests.browser.browsing import CHROMIUM, NEEDED, found_in

pytestmark = NEEDED

ATTACK = "</script><img src=x onerror=problems.push('attack')> =1+1 \u2028 & \"quotes\""
WATCH = """
<script>
window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message)), true);
addEventListener("securitypolicyviolation", (event) => problems.push("policy: " + event.blockedURI));
</script>
"""
PROBE = """
<script>
addEventListener("load", () => setTimeout(async () => {
  const found = { problems, prompts: [], places: [] };
  const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const text = (id) => document.getElementById(id).textContent;
  const begin = (name) => {
    document.getElementById("judge").value = name;
    document.querySelector("form").requestSubmit();
  };
  const blobs = [];
  const downloads = [];
  const make = URL.createObjectURL;
  URL.createObjectURL = (blob) => { blobs.push(blob); return make(blob); };
  HTMLAnchorElement.prototype.click = function () { downloads.push(this.download); };
  press("ArrowLeft"); press("s");
  found.before = { hidden: vote.hidden, saved: blobs.length };
  begin("=Ada, \\"B\\"");
  found.shown = !vote.hidden;
  for (const key of KEYS) { found.prompts.push(text("prompt")); found.places.push(text("place")); press(key); }
  found.ended = !end.hidden;
  press("Backspace");
  found.back = text("place");
  found.marked = [...document.querySelectorAll("[data-choice].chosen")].map((b) => b.dataset.choice);
  document.querySelector("[data-choice=same]").click();
  document.querySelector("#end .save").click();
  found.csv = await blobs[0].text();
  found.downloads = downloads;
  found.stored = localStorage.length;
  begin("=Ada, \\"B\\"");
  found.again = { ended: !end.hidden };
  begin("Grace");
  found.other = { place: text("place"), prompt: text("prompt") };
  const moving = document.getAnimations();
  found.moving = moving.map((a) => [a.playState, Math.round(a.currentTime)]);
  press(" ");
  found.paused = document.getAnimations().map((a) => a.playState);
  const boxes = [...document.querySelectorAll(".shown")].map((shown) => shown.getBoundingClientRect());
  found.boxes = boxes.map((box) => [box.width, box.height]);
  found.wide = document.documentElement.scrollWidth > innerWidth;
  found.images = document.images.length;
  const result = document.createElement("pre");
  result.id = "probe";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
}, 200));
</script>
"""


def study(count: int = 4) -> Study:
    pairs = [
        Pair(f"{number:012x}", f"p{number}", f"prompt {number} {ATTACK}", 0, *sides)
        for number, sides in zip(range(count), [("one", "two"), ("two", "one")] * count, strict=False)
    ]
    return Study("feedbeef0123", "a study", ("one", "two"), tuple(pairs))


def frames(count: int, size: int = 80):
    def read(model: str, pair: Pair) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((model == "one", pair.seed)) % 1000)
        return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)

    return read


def browse(document: str, folder: Path, keys: list[str], width: int = 1240) -> dict:
    """What the page looks like from inside, after it was voted on."""
    probe = PROBE.replace("KEYS", json.dumps(keys))
    page = folder / "page.html"
    # as plain text, because markup would escape the scripts: before everything, and after the page's own script
    page.write_text(
        str(document).replace("<title>", WATCH + "<title>", 1).replace("</body>", probe + "</body>"), "utf-8"
    )
    return found_in(page, folder / "profile", width, 900)


def test_a_judge_votes_saves_and_goes_on(tmp_path):
    made = study()
    found = browse(ab_page(made, frames(1), "A study"), tmp_path, ["ArrowLeft", "3", "ArrowDown", "ArrowLeft"])
    assert found["problems"] == []
    assert found["before"] == {"hidden": True, "saved": 0}
    assert found["shown"] and found["ended"]
    assert sorted(found["prompts"]) == sorted(pair.prompt for pair in made.pairs)
    assert found["places"] == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    # one back, the earlier choice is marked, and another replaces it
    assert found["back"] == "4 of 4" and found["marked"] == ["left"]
    assert found["downloads"] == ["votes-feedbeef0123--Ada-B-.csv"]
    rows = list(csv.reader(io.StringIO(found["csv"])))
    assert rows[0] == ["study", "judge", "pair", "choice", "seconds", "at"]
    assert [row[3] for row in rows[1:]] == ["left", "right", "same", "same"]
    # a spreadsheet must not run a name
    assert {row[1] for row in rows[1:]} == {'\'=Ada, "B"'}
    assert found["again"] == {"ended": True} and found["stored"] == 1
    assert found["other"]["place"] == "1 of 4"
    assert found["images"] == 0 and not found["wide"]


def test_the_saved_file_is_counted(tmp_path):
    made = study()
    found = browse(ab_page(made, frames(1), "A study"), tmp_path, ["ArrowRight"] * 4)
    file = tmp_path / "votes.csv"
    file.write_bytes(found["csv"].encode())
    votes, rejected = read_votes([file], made)
    assert rejected == [] and len(votes) == 4
    count = count_votes(made, votes)
    # three for the right side, of which "two" is on the right of pairs 0 and 2; the last was changed to the same
    assert count.comparisons[0].votes == 4 and count.comparisons[0].ties == 1
    assert count.left is not None and count.left.value == 0


def test_clips_play_together_and_pause(tmp_path):
    found = browse(ab_page(study(2), frames(6, 32), "Clips"), tmp_path, ["ArrowLeft", "ArrowLeft"])
    assert found["problems"] == []
    assert len(found["moving"]) == 2 and {state for state, _ in found["moving"]} == {"running"}
    assert len({time for _, time in found["moving"]}) == 1
    assert found["paused"] == ["paused", "paused"]
    assert all(abs(width - height) < 1 and width > 200 for width, height in found["boxes"])


def test_page_fits_a_narrow_window(tmp_path):
    assert not browse(ab_page(study(2), frames(1), "Narrow"), tmp_path, ["ArrowLeft"], width=500)["wide"]


@pytest.mark.parametrize("frame", [0, 2, 3, 6])
def test_every_frame_of_the_sheet_is_shown_in_its_turn(tmp_path, frame):
    """Seven shades in three rows: the one on the screen is the one whose turn it is."""
    shades = 30 * (1 + torch.arange(7, dtype=torch.uint8))[:, None, None, None]
    document = ab_page(study(1), lambda model, pair: shades.expand(7, 3, 80, 80), "Sheet")
    stop = f"""<script>addEventListener("load", () => {{
      document.getElementById("judge").value = "Ada";
      document.querySelector("form").requestSubmit();
      for (const animation of document.getAnimations()) {{
        animation.pause();
        animation.currentTime = (1000 * ({frame} + 0.5)) / study.fps;
      }}
      const box = document.querySelector(".shown").getBoundingClientRect();
      document.body.append(Object.assign(document.createElement("pre"), {{
        id: "box", textContent: JSON.stringify([box.x, box.y, box.width, box.height]) }}));
    }});</script>"""
    page, picture = tmp_path / "page.html", tmp_path / "shot.png"
    page.write_text(str(document).replace("</body>", stop + "</body>"), "utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={picture}",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1240,900", "--virtual-time-budget=2000",
    ]  # fmt: skip
    shown = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    subprocess.run([*command, page.as_uri()], capture_output=True, timeout=120, check=True)
    x, y, width, height = json.loads(re.search(r'<pre id="box">(.*?)</pre>', shown.stdout).group(1))
    seen = Image.open(picture).convert("L").crop((int(x) + 2, int(y) + 2, int(x + width) - 2, int(y + height) - 2))
    low, high = seen.getextrema()
    # nothing of its neighbours, even at the edges
    assert abs(low - 30 * (frame + 1)) <= 3 and abs(high - 30 * (frame + 1)) <= 3
