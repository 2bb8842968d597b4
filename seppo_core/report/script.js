"use strict";
// Tables: a click on a heading sorts by it, a second click turns the order round. Numbers begin with the largest.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.querySelector("button")?.addEventListener("click", () => {
    const key = (row) => row.cells[column].dataset.sort;
    const rows = [...table.tBodies[0].rows];
    const numeric = rows.every((row) => key(row) !== "" && Number.isFinite(Number(key(row))));
    const before = heading.getAttribute("aria-sort");
    const rising = before ? before === "descending" : !numeric;
    const order = numeric ? (a, b) => Number(key(a)) - Number(key(b)) : (a, b) => key(a).localeCompare(key(b));
    rows.sort((a, b) => (rising ? order(a, b) : order(b, a)));
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  }));
}

// Clips: they play by themselves; the bars steer all of them at once, so that they stay in step.
const players = [...document.querySelectorAll(".player")];
const clips = () => [...document.querySelectorAll(".clip")].flatMap((clip) => clip.getAnimations());
let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
let speed = 1;

function steer() {
  for (const clip of clips()) {
    clip.playbackRate = speed;
    if (playing) clip.play(); else clip.pause();
  }
  for (const player of players) {
    player.querySelector(".play").textContent = playing ? "Pause" : "Play";
    player.querySelector(".speed").value = speed;
  }
}

function show(frame) {
  playing = false;
  steer();
  for (const clip of clips()) {
    const { duration } = clip.effect.getComputedTiming();
    const frames = Number(clip.effect.target.style.getPropertyValue("--frames"));
    clip.currentTime = ((frame % frames) + 0.5) * duration / frames;
  }
  for (const player of players) {
    player.querySelector(".frame").value = frame;
    player.querySelector("output").textContent = frame + 1;
  }
}

for (const player of players) {
  player.hidden = false;
  player.querySelector(".play").addEventListener("click", () => { playing = !playing; steer(); });
  player.querySelector(".speed").addEventListener("input", (event) => { speed = Number(event.target.value); steer(); });
  player.querySelector(".frame").addEventListener("input", (event) => show(Number(event.target.value)));
}
// moving a clip's row in its table starts its animation anew; all of them are set back to one clock
for (const table of document.querySelectorAll("table.grid")) {
  table.addEventListener("click", (event) => {
    if (!event.target.closest("th button")) return;
    for (const clip of clips()) clip.currentTime = 0;
    steer();
  });
}
if (players.length) steer();
