"""A finished demo's folder, written without training anything: clean drawings, made worse by arm, and their scores."""

import json
from pathlib import Path

import torch
from einops import rearrange

from benchmarks.experiments.toy.demo import MARKER, Demo, DemoFolder, Reports
from benchmarks.experiments.toy.demo_arms import SHORT, DemoPaths, trained
from benchmarks.experiments.toy.demo_plan import plan
from benchmarks.experiments.toy.task.mixture import score_samples
from seppo_core.export.samples import to_frames
from seppo_core.io.atomic import save_json, save_tensors, save_text
from seppo_core.toy.captions import Modality, held_out
from seppo_core.toy.render import caption_indices, clean_clips, clean_images

NOISE = {"base": 0.35, "continued": 0.34, "sft": 0.2, "seppo": 0.15, "dpo": 0.17, "anchor_off": 0.6}
UPDATES = 60


def write_finished(
    out: Path, modality: Modality, prompts: int = 12, seeds: int = 3, rename=lambda prompt: prompt
) -> None:
    """Scores, samples, metrics and set scores as the demo's tasks would leave them; `rename` changes what is stored."""
    captions = held_out(modality)[:prompts]
    drawing = (clean_images if modality == "image" else clean_clips)(caption_indices(modality, captions))
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn((prompts, seeds, *drawing.shape[1:]), generator=generator)
    paths = DemoPaths(out)
    for arm in SHORT[modality]:
        for update in [0] if arm == "base" else [UPDATES // 2, UPDATES]:
            worse = NOISE["base"] + (NOISE[arm] - NOISE["base"]) * (update / UPDATES if update else 1)
            pixels = (drawing[:, None] + worse * noise).clamp(-1, 1).flatten(0, 1)
            repeated = [caption for caption in captions for _ in range(seeds)]
            scores = score_samples(modality, pixels, repeated)
            frames = to_frames(pixels)
            frames = frames[:, 0] if modality == "image" else frames
            count = seeds if update in (0, UPDATES) else 1
            tensors = {
                "scores": scores.unflatten(0, (prompts, seeds))[:, :count],
                "samples": rearrange(frames, "(p s) ... -> p s ...", s=seeds)[:, :count],
            }
            metadata = {"prompts": json.dumps([rename(c) for c in captions]), "seeds": json.dumps(list(range(count)))}
            save_tensors(paths.scores(modality) / arm / f"update-{update:06d}.safetensors", tensors, metadata)
        if arm in trained(SHORT[modality]):
            folder = paths.run(modality, arm)
            folder.mkdir(parents=True)
            lines = [json.dumps(_metrics(arm, update)) for update in range(1, UPDATES + 1)]
            (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ranked = [{"score": 0.9, "loser_score": 0.5}, {"score": 0.6, "loser_score": 0.4}]
    save_text(paths.data(modality, "winners") / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in ranked))
    save_json(paths.data(modality, "winners").parent / "start.json", {"continued": 0.67})


def write_reports(out: Path, modalities: tuple[Modality, ...], done: dict[str, float] | None = None) -> dict:
    """The reports of a folder in which every task counts as done, in the seconds of `done` or one; report.json."""
    demo = Demo(modalities)
    tasks = plan(DemoPaths(out), modalities, demo.seed, demo.recipes)
    marker = out / MARKER
    if not marker.exists():
        save_json(marker, {"made_by": "python -m benchmarks demo", "settings": demo.settings, "done": {}})
    folder = DemoFolder(out, demo.settings, resume=True)
    folder.done = {task.name: 1.0 for task in tasks} | (done or {})
    return Reports(out, demo, tasks, folder, 0.0, 2).write()


def _metrics(arm: str, update: int) -> dict[str, float]:
    wobble = 0.02 * ((update * 7919) % 13 - 6) / 6
    winner_error = 0.3 + wobble + (0.004 * update if arm == "anchor_off" else -0.001 * update)
    found = {"update": update, "loss": 0.69, "winner_error": winner_error}
    if arm == "seppo":
        plus = min(1.0, 0.45 + 0.004 * update) + wobble
        found |= {"share_s_plus": plus, "share_s_zero": 1 - plus, "implicit_accuracy": 0.5 + 0.003 * update + wobble}
    return found
