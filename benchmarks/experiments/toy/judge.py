"""`python -m benchmarks.experiments.toy.judge MODALITY FOLDER ARM`: samples of an arm of the demo, scored exactly.

Held-out prompts from the same noise for every arm: what `sample` draws for a prompt and a seed. The last checkpoint is
scored with all seeds and its samples are kept; earlier ones, for the curves, with the first seed alone.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.experiments.toy.demo_arms import ARMS, DemoPaths, load_configs, trained
from benchmarks.experiments.toy.demo_watch import judge_progress
from benchmarks.experiments.toy.task.mixture import score_samples
from seppo_core.config.schema import Config
from seppo_core.export.samples import Draw, to_frames
from seppo_core.io.atomic import save_tensors
from seppo_core.models.adapter import Adapter
from seppo_core.models.sampling import make_scheduler
from seppo_core.models.tuning import load_trainable_state, trainable_state
from seppo_core.run.checkpoint import CheckpointFolder, load_weights
from seppo_core.toy.captions import Modality, held_out
from seppo_core.training.setup import tune

NAME = "update-{:06d}.safetensors"


class Judge:
    """Draws and scores; the seeds are the same for all arms, so that their samples can be compared one by one."""

    def __init__(self, modality: Modality, config: Config, prompts: list[str], seeds: list[int], batch: int):
        self.modality = modality
        self.prompts, self.seeds, self.batch = prompts, seeds, batch
        self.adapter = load_adapter(modality, config)
        tune(self.adapter, config)
        self.base = trainable_state(self.adapter.denoiser)
        p = config.preview
        self.draw = Draw(
            self.adapter,
            self.adapter.latent_shape(config.data.height, config.data.width, config.data.frames),
            steps=p.steps,
            guidance_scale=p.guidance_scale,
            scheduler=make_scheduler(p.scheduler, self.adapter.scheduler),
        )

    def score(self, state: dict[str, Tensor], path: Path, seeds: list[int], progress) -> None:
        """Writes `scores` (prompts, seeds) and `samples` (prompts, seeds, [f], h, w, 3) uint8, whole or not at all.

        The scored pixels are the 8-bit ones that a file would hold.
        """
        load_trainable_state(self.adapter.denoiser, state)
        pairs = [(prompt, seed) for prompt in self.prompts for seed in seeds]
        scores, samples = [], []
        for start in range(0, len(pairs), self.batch):
            part = pairs[start : start + self.batch]
            frames = to_frames(self.draw(part))
            pixels = rearrange(frames, "b f h w c -> b c f h w").float() / 127.5 - 1
            if self.modality == "image":
                frames, pixels = frames[:, 0], pixels[:, :, 0]
            samples.append(frames)
            scores.append(score_samples(self.modality, pixels, [prompt for prompt, _ in part]))
            progress(len(part))
        shape = (len(self.prompts), len(seeds))
        tensors = {"scores": torch.cat(scores).unflatten(0, shape), "samples": torch.cat(samples).unflatten(0, shape)}
        save_tensors(path, tensors, {"prompts": json.dumps(self.prompts), "seeds": json.dumps(seeds)})


def load_adapter(modality: Modality, config: Config) -> Adapter:
    """As the commands load it."""
    if modality == "image":
        from seppo_image.commands import load
    else:
        from seppo_video.commands import load
    return load(config)


def spread(checkpoints: list[Path], points: int) -> list[Path]:
    """At most `points` of the checkpoints, evenly spread, the last always among them."""
    chosen = {round((i + 1) * len(checkpoints) / points) - 1 for i in range(points)}
    return [path for index, path in enumerate(checkpoints) if index in chosen]


def jobs_of(paths: DemoPaths, modality: Modality, arm: str, points: int) -> list[tuple[Path | None, Path]]:
    """Checkpoints (None is the base) and the files their scores go to, oldest first."""
    folder = paths.scores(modality) / arm
    if not trained((arm,)):
        return [(None, folder / NAME.format(0))]
    found = CheckpointFolder(paths.run(modality, arm) / "checkpoints").list()
    if not found:
        raise FileNotFoundError(f"{paths.run(modality, arm)} holds no checkpoint; train it first")
    return [(path, folder / f"{path.name}.safetensors") for path in spread(found, points)]


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modality", choices=get_args(Modality))
    parser.add_argument("folder", type=Path, help="the demo's folder")
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("--seed", type=int, default=0, help="of the demo; arms of one demo share all noise")
    parser.add_argument("--seeds", type=int, default=8, help="samples per prompt at the last checkpoint")
    parser.add_argument("--prompts", type=int, help="number of held-out prompts; all unless given")
    parser.add_argument("--curve-points", type=int, default=3, help="checkpoints to score per arm")
    parser.add_argument("--batch", type=int, default=64, help="samples drawn at once")
    parser.add_argument("--steps", type=int, required=True, help="denoising steps")
    parser.add_argument("--scheduler", required=True, help="solver")
    chosen = parser.parse_args(argv)

    paths = DemoPaths(chosen.folder)
    seeds = [1000 * chosen.seed + index for index in range(chosen.seeds)]
    prompts = held_out(chosen.modality)
    prompts = prompts[:: len(prompts) // chosen.prompts][: chosen.prompts] if chosen.prompts else prompts
    jobs = jobs_of(paths, chosen.modality, chosen.arm, chosen.curve_points)
    work = [(source, path, seeds if path == jobs[-1][1] else seeds[:1]) for source, path in jobs]
    total = len(prompts) * sum(len(seeds) for *_, seeds in work)
    counter = judge_progress(paths.scores(chosen.modality), chosen.arm)
    counter.parent.mkdir(parents=True, exist_ok=True)
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        counter.write_text(json.dumps([done, total]), encoding="utf-8")

    config = load_configs(chosen.modality, ("sft",))["sft"]
    preview = replace(config.preview, steps=chosen.steps, scheduler=chosen.scheduler)
    judge = Judge(chosen.modality, replace(config, preview=preview), prompts, seeds, chosen.batch)
    for source, path, drawn in work:
        if path.exists():
            progress(len(prompts) * len(drawn))
            continue
        judge.score(judge.base if source is None else load_weights(source), path, drawn, progress)
        print(f"{path.parent.name} {path.stem}: mean score {load_file(path)['scores'].mean():.4f}", flush=True)
    counter.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
