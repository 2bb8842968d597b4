"use strict";
// All text from the study reaches the page as textContent; nothing is ever parsed as markup.
const study = JSON.parse(document.getElementById("study").textContent);
const screens = { start: document.getElementById("start"), vote: document.getElementById("vote"), end: document.getElementById("end") };
const votes = new Map();
let judge = "";
let order = [];
let at = 0;
let since = 0;
let playing = true;

// Every judge has an order of their own, the same after a reload, so that the last pairs are not tired for all.
function shuffled(items, text) {
  let state = 2166136261;
  for (const character of text) state = Math.imul(state ^ character.codePointAt(0), 16777619) >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  const list = [...items];
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

// Storage may be refused to a local file; then a reload loses the votes, and nothing else changes.
const drawer = () => `seppo-ab ${study.study} ${judge}`;
function remember() {
  try { localStorage.setItem(drawer(), JSON.stringify([...votes])); } catch { /* kept in memory alone */ }
}
function recall() {
  try {
    for (const [id, vote] of JSON.parse(localStorage.getItem(drawer()) ?? "[]")) votes.set(id, vote);
  } catch { votes.clear(); }
}

function show(name) {
  for (const [key, screen] of Object.entries(screens)) screen.hidden = key !== name;
}

// The frames lie in rows on one sheet: where each of them is, in per cent as background-position counts.
function steps(media) {
  const rows = Math.ceil(media.frames / media.columns);
  const share = (index, count) => `${count > 1 ? (100 * index) / (count - 1) : 0}%`;
  return Array.from({ length: media.frames }, (_, frame) => ({
    backgroundPosition: `${share(frame % media.columns, media.columns)} ${share(Math.floor(frame / media.columns), rows)}`,
    easing: "step-end", offset: frame / media.frames,
  }));
}

function place(media, side) {
  const stage = document.getElementById(`${side}-stage`);
  const shown = document.createElement("div");
  shown.className = "shown";
  if (media.height <= 64) shown.classList.add("pixels");
  shown.setAttribute("role", "img");
  shown.setAttribute("aria-label", side);
  const most = media.height <= 64 ? media.width * 16 : media.width * 1.5;
  for (const [name, value] of Object.entries({
    "--aspect": media.width / media.height, "--columns": media.columns,
    "--rows": Math.ceil(media.frames / media.columns), "--most": `${most}px`,
  })) shown.style.setProperty(name, value);
  shown.style.backgroundImage = `url("${media.uri}")`;
  stage.replaceChildren(shown);
  if (media.frames > 1) {
    const frames = steps(media);
    const last = { ...frames.at(-1), offset: 1 };
    shown.animate([...frames, last], { duration: (1000 * media.frames) / study.fps, iterations: Infinity });
  }
}

function steer() {
  for (const animation of document.getAnimations()) {
    if (playing) animation.play(); else animation.pause();
  }
  document.getElementById("pause").textContent = playing ? "Pause" : "Play";
}

function present() {
  if (at >= order.length) { show("end"); return; }
  show("vote");
  const pair = order[at];
  document.getElementById("prompt").textContent = pair.prompt;
  place(pair.left, "left");
  place(pair.right, "right");
  // both clips begin together
  for (const animation of document.getAnimations()) animation.currentTime = 0;
  document.getElementById("pause").hidden = pair.left.frames === 1 && pair.right.frames === 1;
  steer();
  const choice = votes.get(pair.id)?.choice;
  for (const button of document.querySelectorAll("[data-choice]")) button.classList.toggle("chosen", button.dataset.choice === choice);
  for (const side of ["left", "right"]) document.getElementById(`${side}-stage`).classList.toggle("chosen", side === choice);
  document.getElementById("place").textContent = `${at + 1} of ${order.length}`;
  document.getElementById("bar").value = votes.size / order.length;
  document.getElementById("back").disabled = at === 0;
  since = performance.now();
}

function choose(choice) {
  if (screens.vote.hidden) return;
  const seconds = Math.round((performance.now() - since) / 100) / 10;
  votes.set(order[at].id, { choice, seconds, at: new Date().toISOString() });
  remember();
  at += 1;
  present();
}

function back() {
  if (at === 0 || !screens.start.hidden) return;
  at -= 1;
  present();
}

// A name that begins like a formula would be run by a spreadsheet.
function cell(value) {
  const text = /^[=+\-@\t\r]/.test(String(value)) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv() {
  const rows = [["study", "judge", "pair", "choice", "seconds", "at"]];
  for (const [id, vote] of votes) rows.push([study.study, judge, id, vote.choice, vote.seconds, vote.at]);
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function save() {
  if (!screens.start.hidden) return;
  const url = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `votes-${study.study}-${judge.replace(/[^A-Za-z0-9]+/g, "-")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  judge = document.getElementById("judge").value.trim();
  if (!judge) return;
  votes.clear();
  recall();
  order = shuffled(study.pairs, `${study.study} ${judge}`);
  const open = order.findIndex((pair) => !votes.has(pair.id));
  at = open < 0 ? order.length : open;
  document.activeElement?.blur();
  present();
});
for (const button of document.querySelectorAll("[data-choice]")) button.addEventListener("click", () => choose(button.dataset.choice));
for (const button of document.querySelectorAll(".save")) button.addEventListener("click", save);
document.getElementById("back").addEventListener("click", back);
document.getElementById("again").addEventListener("click", back);
document.getElementById("pause").addEventListener("click", () => { playing = !playing; steer(); });
addEventListener("keydown", (event) => {
  if (!screens.start.hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const action = {
    ArrowLeft: () => choose("left"), ArrowRight: () => choose("right"), ArrowDown: () => choose("same"),
    1: () => choose("left"), 2: () => choose("same"), 3: () => choose("right"),
    Backspace: back, " ": () => { playing = !playing; steer(); }, s: save, S: save,
  }[event.key];
  if (action) { event.preventDefault(); action(); }
});
