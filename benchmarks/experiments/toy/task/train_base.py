"""Trains a base of the toy task on the noisy mixture until its held-out score no longer rises.

    python -m benchmarks.experiments.toy.task.train_base image
    python -m benchmarks.experiments.toy.task.train_base video

Plain denoising training of the UNet and its text encoder together, on fresh draws for the training captions only. The
video base begins as the image base: it learns the last frames of clips, where a thing is on the side that it moves to,
and then motion modules learn the clips while all else is kept, as AnimateDiff goes on top of Stable Diffusion. The
learning rate stays level until the score of the averaged weights has stopped rising (or the cap is met), then falls to
zero over a last stretch, so that more of the same training has nothing left to give. `--go-on` trains a base further;
one that was stopped goes on by itself. Results so far are saved at every evaluation; `<name>_training.json` beside the
folders holds the settings and the curve.
"""

import argparse
import copy
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_model, save_model
from torch import Tensor
from torch.nn import functional as F
from transformers.utils.logging import disable_progress_bar

from benchmarks.evaluation import tiny_models as models
from benchmarks.experiments.toy.task.base_model import Base
from benchmarks.experiments.toy.task.base_settings import SETTINGS, Settings
from benchmarks.experiments.toy.task.bases import FOLDER
from benchmarks.experiments.toy.task.mixture import draw_samples, score_samples
from seppo_core.toy.captions import Modality, held_out, train_captions

BATCH_OF_EVALUATION = 64
FRAMES = "video_frames.safetensors"
"""The picture half of the video base, kept while the clips are learnt."""
LAST_FRAMES = 3
"""Frames of a clip that the picture half of the video base learns from."""


@torch.no_grad()
def sample(base: Base, captions: list[str], steps: int, guidance: float, seed: int) -> Tensor:
    """Pixels of one sample per caption, by deterministic DDIM from noise drawn with `seed`."""
    scheduler = models.scheduler()
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    tokens, empty = base.tokens(captions), base.tokens([""])
    shape = (12, 8, 8) if base.modality == "image" else (12, models.FRAMES, 8, 8)
    x = torch.randn((len(captions), *shape), generator=generator)
    done = []
    size = BATCH_OF_EVALUATION if base.modality == "image" else BATCH_OF_EVALUATION // 4
    for x_t, part in zip(x.split(size), tokens.split(size), strict=True):
        for t in scheduler.timesteps:
            when = t.expand(len(x_t))
            prediction = base(x_t, when, part)
            if guidance != 1:
                blind = base(x_t, when, empty.expand(len(x_t), -1))
                prediction = blind + guidance * (prediction - blind)
            x_t = scheduler.step(prediction, t, x_t).prev_sample
        done.append(base.pixels(x_t))
    return torch.cat(done)


def evaluate(base: Base, settings: Settings, guidance: float = 1.0, first_seed: int = 1000) -> float:
    """Mean R over the held-out captions, each with `evaluation_seeds` noises that are the same every time."""
    captions = held_out(base.modality)
    scores = []
    for seed in range(first_seed, first_seed + settings.evaluation_seeds):
        pixels = sample(base, captions, settings.evaluation_steps, guidance, seed)
        scores.append(score_samples(base.modality, pixels.clamp(-1, 1), captions))
    return torch.cat(scores).mean().item()


def _has_stopped(scores: list[float], settings: Settings) -> bool:
    recent, before = scores[-settings.patience :], scores[: -settings.patience]
    return bool(before) and max(recent) < max(before) + settings.rise


def _write(path: Path, report: dict) -> None:
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps(report, indent=1) + "\n")
    fresh.replace(path)


class Trainer:
    """Denoising steps on one set of weights, and their running average."""

    def __init__(self, base: Base, settings: Settings, generator: torch.Generator):
        self.base, self.settings, self.generator = base, settings, generator
        self.average = copy.deepcopy(base).requires_grad_(False).eval()
        self.known = train_captions(base.modality)
        self.tokens, self.empty = base.tokens(self.known), base.tokens([""])[0]
        self.noising: DDIMScheduler = models.scheduler()
        if base.has_motion:
            # as AnimateDiff does. A picture half that learns too forgets the word for the direction, which says nothing
            # of all frames together, before the motion has learnt what it says of each
            base.requires_grad_(False)
            for name, weight in base.denoiser.named_parameters():
                weight.requires_grad_("motion_modules" in name)
        pairs = list(zip(base.parameters(), self.average.parameters(), strict=True))
        self.weights = [w for w, _ in pairs if w.requires_grad]
        self.averaged = [a for w, a in pairs if w.requires_grad]
        frames = settings.picture_learning_rate if base.modality == "video" else settings.learning_rate
        self.rate = settings.motion_learning_rate if base.has_motion else frames
        self.optimizer = torch.optim.AdamW(self.weights, lr=self.rate, fused=True)
        self.done = 0

    def step(self, batch: int, scale: float, single_frames: bool = False) -> Tensor:
        """One update at `scale` times the learning rate; returns the loss."""
        settings, generator = self.settings, self.generator
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, (self.done + 1) / settings.warmup) * scale
        pick = torch.randint(len(self.known), (batch,), generator=generator)
        pixels = draw_samples(self.base.modality, [self.known[i] for i in pick], generator)
        if single_frames:
            # the last ones, where a thing is on the side that it moves to: of all frames together, the word for the
            # direction tells nothing, and clips do not teach a word that has never meant anything
            first = pixels.shape[2] - LAST_FRAMES
            frame = torch.randint(first, pixels.shape[2], (batch,), generator=generator)
            x_0 = self.base.frame_latents(pixels[torch.arange(batch), :, frame])
        else:
            x_0 = self.base.latents(pixels)
        blind = torch.rand(batch, generator=generator) < settings.drop
        # the largest of a few uniform draws: what a sample shows is decided where there is much noise
        count = self.noising.config.num_train_timesteps
        draws = torch.randint(count, (settings.timestep_draws, batch), generator=generator)
        t = draws.amax(0)
        noise = torch.randn(x_0.shape, generator=generator)
        tokens = torch.where(blind[:, None], self.empty, self.tokens[pick])
        prediction = self.base(self.noising.add_noise(x_0, noise, t), t, tokens)
        loss = F.mse_loss(prediction, self.noising.get_velocity(x_0, noise, t))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, settings.clip)
        self.optimizer.step()
        self.done += 1
        with torch.no_grad():
            decay = min(settings.ema, (1 + self.done) / (10 + self.done))
            torch._foreach_lerp_(self.averaged, self.weights, 1 - decay)
        return loss.detach()

    def state(self) -> dict:
        """What the next step hangs on, beside its number."""
        return {
            "base": self.base.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "done": self.done,
        }

    def load(self, state: dict) -> None:
        self.base.load_state_dict(state["base"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.done = state["done"]


def _learn_frames(base: Base, settings: Settings, generator: torch.Generator) -> None:
    """The picture half of the video base, on single frames; leaves `base` a motion UNet."""
    trainer, start = Trainer(base, settings, generator), time.monotonic()
    losses = []
    for step in range(1, settings.picture_steps + 1):
        losses.append(trainer.step(64, 1.0, single_frames=True))
        if step % settings.every == 0:
            rate = step / (time.monotonic() - start)
            loss = torch.stack(losses[-settings.every :]).mean().item()
            left = (settings.picture_steps - step) / rate / 60
            print(
                f"{step:6d}/{settings.picture_steps} on frames  loss {loss:.4f}  {rate:.2f} steps/s  {left:.1f} min "
                "left"
            )
    base.load_state_dict(trainer.average.state_dict())


def train(modality: Modality, settings: Settings, folder: Path, go_on: bool = False) -> dict:
    """Trains and saves one base; returns what `<modality>_training.json` gets. With `go_on` it begins
    from the saved one.

    What was stopped goes on from its last evaluation, to the same weights; ValueError if its settings were others.
    """
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    base = Base(modality, settings.channels)
    state_path = folder / f"{modality}_state.pt"
    state = torch.load(state_path, weights_only=True) if state_path.is_file() else None
    if state is not None and state["settings"] != _plain(settings):
        raise ValueError(f"{state_path} is of a training with other settings; move it away to begin anew")
    mixed = [caption for caption in held_out(modality) for _ in range(8)]
    mixture = score_samples(modality, draw_samples(modality, mixed, generator), mixed).mean().item()
    start = time.monotonic()
    print(f"{modality}: the mixture scores {mixture:.4f} on the held-out captions")
    if go_on:
        base.load(folder, modality)
    elif modality == "video" and state is not None:
        base.add_motion()
    elif modality == "video":
        # as AnimateDiff does, motion goes on top of a trained picture model
        base.load(folder, "image")
        base.draw_words(("moving", "left", "right"), generator)
        frames_path = folder / FRAMES
        if not frames_path.is_file():
            # with draws of its own, so that the clips are the same whether this was done just now or before a stop
            _learn_frames(base, settings, torch.Generator().manual_seed(settings.seed + 1))
            save_model(base, frames_path)
        load_model(base, frames_path)
        base.add_motion()
    trainer = Trainer(base, settings, generator)
    parameters = sum(w.numel() for w in trainer.weights)
    report = {"modality": modality, "parameters": parameters, "settings": asdict(settings), "mixture_score": mixture}
    report["curve"] = []
    if go_on:
        report["before"] = json.loads((folder / f"{modality}_training.json").read_text(encoding="utf-8"))
    print(f"{parameters} parameters")

    step, end, stage = 0, settings.max_steps, time.monotonic()
    if state is not None:
        trainer.load(state["trainer"])
        step, end, report = state["step"], state["end"], json.loads(state["report"])
        start -= report["curve"][-1]["seconds"]
        print(f"goes on from step {step}")
    begun_at = step
    losses: list[Tensor] = []
    while step < end:
        losses.append(trainer.step(settings.batch, min(1.0, (end - step) / settings.cooldown)))
        step += 1
        if step % settings.every == 0 or step == end:
            score = evaluate(trainer.average, settings)
            now = time.monotonic()
            row = {"step": step, "score": score, "loss": torch.stack(losses).mean().item()}
            report["curve"].append({**row, "seconds": round(now - start, 1)})
            losses.clear()
            trainer.average.save(folder)
            _write(folder / f"{modality}_training.json", report)
            if end == settings.max_steps and _has_stopped([r["score"] for r in report["curve"]], settings):
                end = min(end, step + settings.cooldown)
                report["stopped_rising_at"] = step
            _save_state(state_path, trainer, settings, step, end, report)
            rate = (step - begun_at) / (now - stage)
            print(
                f"{step:6d}/{end}  loss {row['loss']:.4f}  held-out R {score:.4f}  {rate:.2f} steps/s  "
                f"{(end - step) / rate / 60:.1f} min left"
            )
    report["seconds"] = round(time.monotonic() - start, 1)
    report["guidance"] = {str(g): evaluate(trainer.average, settings, g, 5000) for g in (1.0, 1.25, 1.5, 2.0, 3.0)}
    print("held-out R by guidance:", {g: round(score, 4) for g, score in report["guidance"].items()})
    _write(folder / f"{modality}_training.json", report)
    for path in (state_path, folder / FRAMES):
        path.unlink(missing_ok=True)
    return report


def _plain(settings: Settings) -> dict:
    return json.loads(json.dumps(asdict(settings)))


def _save_state(path: Path, trainer: Trainer, settings: Settings, step: int, end: int, report: dict) -> None:
    fresh = path.with_suffix(".new")
    state = {"settings": _plain(settings), "step": step, "end": end, "report": json.dumps(report)}
    torch.save(state | {"trainer": trainer.state()}, fresh)
    fresh.replace(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modality", choices=("image", "video"))
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder the bases are written to (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="replace a base that is there already")
    parser.add_argument("--go-on", action="store_true", help="train the base that is there further")
    parser.add_argument("--max-steps", type=int, help="cap on the number of steps")
    chosen = parser.parse_args()
    begun = (chosen.out / f"{chosen.modality}_state.pt").exists()
    if (chosen.out / chosen.modality).exists() and not (chosen.force or chosen.go_on or begun):
        parser.error(f"{chosen.out / chosen.modality} exists; give --force to replace it, or another --out")
    settings = SETTINGS[chosen.modality]
    if chosen.max_steps is not None:
        settings = Settings(**{**asdict(settings), "max_steps": chosen.max_steps, "cooldown": chosen.max_steps})
    disable_progress_bar()
    chosen.out.mkdir(parents=True, exist_ok=True)
    train(chosen.modality, settings, chosen.out, chosen.go_on)


if __name__ == "__main__":
    main()
