"""A trained run as it was at each of its checkpoints, and what is drawn from it there: s, and pairs of samples."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from jaxtyping import Bool, Float, Num, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from benchmarks.evaluation.models import ModelSpec, run_config
from seppo_core.cache.reader import WinnerCache
from seppo_core.config.schema import Config
from seppo_core.export.samples import to_frames
from seppo_core.io import purposes
from seppo_core.io.atomic import save_tensors
from seppo_core.io.ledger import Ledger
from seppo_core.io.progress import progress_bar
from seppo_core.io.rng import keyed_generator, keyed_normal, keyed_permutation
from seppo_core.methods.errors import anchor_sign
from seppo_core.methods.reference import Reference, make_reference
from seppo_core.methods.reference_pool import ReferencePool
from seppo_core.methods.step import Batch, pair_errors
from seppo_core.models.adapter import Adapter
from seppo_core.models.sampling import make_scheduler, sample
from seppo_core.models.tuning import load_trainable_state, trainable_state
from seppo_core.run.checkpoint import CheckpointFolder, load_policy, load_progress
from seppo_core.training.setup import ModelParts, build_model
from seppo_image import commands as image_commands
from seppo_image.config import ImageConfig
from seppo_video import commands as video_commands

State = dict[str, Tensor]
Which = Literal["drawn", "initial", "latest"]


@dataclass(frozen=True)
class Point:
    """A moment of training: the policy after `update` updates, and the reference that it was trained against last."""

    update: int
    iteration: int
    reference: int
    """Snapshot of the pool; 0 is the start."""
    policy_state: Callable[[], State]
    reference_state: Callable[[], State]

    @property
    def name(self) -> str:
        return f"update-{self.update:06d}-reference-{self.reference:04d}"


@dataclass(frozen=True)
class Run:
    """Everything that measuring needs."""

    folder: Path
    config: Config
    parts: ModelParts
    cache: WinnerCache
    reference: Reference
    initial: State
    accelerator: Accelerator

    @property
    def kind(self) -> Literal["image", "video"]:
        return "image" if isinstance(self.config, ImageConfig) else "video"

    @property
    def adapter(self) -> Adapter:
        return self.parts.adapter

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def numerics(self) -> AbstractContextManager:
        """The precision that the run was trained in: signs of small gaps depend on it."""
        return self.accelerator.autocast()


def open_run(folder: Path, cache: Path | None = None) -> Run:
    """A run and the winners that it is looked at on: its own, or another `cache` of the same base.

    FileNotFoundError if there is no run or no cache, ValueError if it learnt from labels, or has no winners of its own.
    """
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"{folder} is not a run folder (no config.yaml)")
    config = replace(run_config(ModelSpec("run", str(folder))), run=str(folder))
    if config.method.spec.supervision == "labels":
        raise ValueError(f"{folder} learnt from labels ({config.method.name}); the anchor is about winners")
    if cache is None and config.data.supervision == "prompts":
        raise ValueError(f"{folder} learnt from captions alone and keeps no winners; the anchor is about winners")
    winners = WinnerCache(Path(config.data.cache) if cache is None else cache)
    accelerator = Accelerator(mixed_precision=config.loop.mixed_precision)
    adapter = (image_commands if isinstance(config, ImageConfig) else video_commands).load(config)
    parts = build_model(config, adapter)
    adapter.pipeline.to(accelerator.device)
    initial = trainable_state(adapter.denoiser)
    return Run(folder, config, parts, winners, make_reference(adapter.denoiser), initial, accelerator)


def points(run: Run, which: Which = "drawn") -> list[Point]:
    """Every moment whose weights are still on disk, oldest first: checkpoints, and the pool's snapshots as policies.

    `which` is the reference: the one that the run itself drew for the iteration, the start, or the newest snapshot. A
    run without a reference is held against its start. FileNotFoundError if the run trained nothing yet.
    """
    updates = run.config.loop.updates_per_iteration
    method = run.config.method
    strategy = method.strategy
    pool = ReferencePool(
        run.folder / "pool", strategy or "initial", run.config.seed, method.pool_window, method.sampled_from,
        Ledger(run.folder), run.config.draws or 1,
    )  # fmt: skip
    states: dict[int, Callable[[], State]] = {}
    for path in sorted(pool.folder.glob("snapshot-*.safetensors")):
        index = int(path.stem.removeprefix("snapshot-"))
        if index:
            states[index * updates] = lambda index=index: pool.load(index)
    for checkpoint in CheckpointFolder(run.folder / "checkpoints").list():
        states[load_progress(checkpoint).update] = lambda checkpoint=checkpoint: load_policy(checkpoint)
    if not states:
        raise FileNotFoundError(f"{run.folder} holds no checkpoint and no snapshot beyond the first; train it first")
    found = []
    for update in sorted(states):
        # after an iteration's last update the policy still belongs to it
        iteration = (update - 1) // updates
        if which == "initial" or strategy is None:
            index = 0
        else:
            index = pool.choose(iteration) if which == "drawn" else iteration
        load = (lambda: run.initial) if index == 0 else (lambda index=index: pool.load(index))
        found.append(Point(update, iteration, index, states[update], load))
    return found


def spread(found: list[Point], count: int | None) -> list[Point]:
    """At most `count` of them, evenly spread, the last always among them."""
    if count is None or count >= len(found):
        return found
    return [found[round((i + 1) * len(found) / count) - 1] for i in range(count)]


REVISION = 1
"""Raised when a change here changes what is measured."""


@dataclass(frozen=True)
class Plan:
    """How much is measured; the same for every point, so that points can be compared item by item."""

    items: tuple[int, ...]
    """Indices of the winners."""
    draws: int
    """Timesteps and noises per item, one in each of as many equal parts of the training density."""
    samples: int = 1
    """Samples per item that policy and reference draw each, from shared noise."""
    batch_size: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """`samples` of both are (items, samples, f, h, w, 3); the rest is (items, draws)."""

    policy_samples: UInt8[Tensor, "n r f h w 3"]
    reference_samples: UInt8[Tensor, "n r f h w 3"]
    plus: Bool[Tensor, "n d"]
    u: Float[Tensor, "n d"]
    t: Num[Tensor, "n d"]
    winner_gap: Float[Tensor, "n d"]
    sample_gap: Float[Tensor, "n d"]
    """Hash of the reference's first sample."""


def choose(length: int, count: int, seed: int) -> tuple[int, ...]:
    """`count` items of `length`, drawn without replacement, in order."""
    return tuple(sorted(keyed_permutation(length, seed, "anchor items")[:count].tolist()))


def measure(run: Run, point: Point, plan: Plan, out: Path) -> Measured:
    """Measures a point, or reads what was measured of it with the same plan and weights."""
    path = out / "points" / f"{point.name}.safetensors"
    policy, reference = point.policy_state(), point.reference_state()
    mark = _fingerprint(run, plan, policy, reference)
    if (kept := _kept(path, mark)) is not None:
        return kept
    load_trainable_state(run.adapter.denoiser, policy)
    run.reference.load(reference)
    with torch.no_grad(), run.numerics():
        found = _measure(run, plan, f"update {point.update}")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, vars(found), {"fingerprint": mark})
    return found


def _measure(run: Run, plan: Plan, description: str) -> Measured:
    denoiser = run.adapter.denoiser
    parts: list[dict[str, Tensor]] = []
    with progress_bar(len(plan.items), unit="item", description=description) as bar:
        for start in range(0, len(plan.items), plan.batch_size):
            items = list(plan.items[start : start + plan.batch_size])
            own = [_sample(run, denoiser, items, plan.seed, number) for number in range(plan.samples)]
            with run.reference.active() as frozen:
                theirs = [_sample(run, frozen, items, plan.seed, number) for number in range(plan.samples)]
            parts.append(
                {
                    "policy_samples": torch.stack([_pixels(run, latents) for latents in own], 1),
                    "reference_samples": torch.stack([_pixels(run, latents) for latents in theirs], 1),
                    **_signs(run, items, theirs[0], plan),
                }
            )
            bar.update(len(items))
    return Measured(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def _sample(run: Run, denoiser: nn.Module, items: list[int], seed: int, number: int) -> Tensor:
    """Latents for the items' captions, as the run draws its reference samples; noise is shared by both models."""
    settings, device = run.config.reference_samples, run.device
    keys = [(seed, "anchor sample", item, number) for item in items]
    condition = run.cache.condition(items, [False] * len(items))
    return sample(
        run.adapter,
        denoiser,
        {key: value.to(device) for key, value in condition.items()},
        noise=torch.stack([keyed_normal(run.cache.latent_shape, *key) for key in keys]).to(device),
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        guidance_interval=settings.guidance_interval,
        unconditional={key: value.to(device) for key, value in run.cache.unconditional().items()},
        scheduler=make_scheduler(settings.scheduler, run.adapter.scheduler),
        generators=[keyed_generator(*key, purposes.SAMPLER) for key in keys],
    )


def _pixels(run: Run, latents: Tensor) -> UInt8[Tensor, "b f h w 3"]:
    return to_frames(run.adapter.decode(latents).float().cpu())


def _signs(run: Run, items: list[int], samples: Tensor, plan: Plan) -> dict[str, Tensor]:
    """s and both gaps at one timestep in each stratum; no caption is dropped and no picture mirrored."""
    device, shape = run.device, run.cache.latent_shape
    posterior = run.cache.posterior(items, [False] * len(items))
    condition = {k: v.to(device) for k, v in run.cache.condition(items, [False] * len(items)).items()}
    columns: dict[str, list[Tensor]] = {name: [] for name in ("plus", "u", "t", "winner_gap", "sample_gap")}
    for draw in range(plan.draws):
        keys = [(plan.seed, "anchor draw", item, draw) for item in items]
        jitter = torch.cat([torch.rand(1, generator=keyed_generator(*key), dtype=torch.float64) for key in keys])
        u = (draw + jitter) / plan.draws
        noises = [
            torch.stack([keyed_normal(shape, *key, what) for key in keys]) for what in ("posterior", "winner", "sample")
        ]
        if run.config.data.posterior == "mode":
            noises[0] = torch.zeros_like(noises[0])
        noise_path = run.parts.noise_path
        t = noise_path.timesteps(u)
        batch = Batch(
            x0=posterior.sample(noises[0]).to(device),
            condition=condition,
            t=t.to(device),
            noise=noises[1].to(device),
            noise_path=noise_path,
            counterpart=samples,
            counterpart_noise=(noises[1] if run.config.method.noise == "shared" else noises[2]).to(device),
        )
        errors = pair_errors(run.adapter, run.adapter.denoiser, run.reference, batch)
        for name, value in (
            ("plus", anchor_sign(errors) > 0), ("u", u), ("t", t), ("winner_gap", errors.winner_gap),
            ("sample_gap", errors.sample_gap),
        ):  # fmt: skip
            columns[name].append(value.cpu())
    return {name: torch.stack(values, 1) for name, values in columns.items()}


def _fingerprint(run: Run, plan: Plan, *states: dict[str, Tensor]) -> str:
    settings = [REVISION, plan.items, plan.draws, plan.samples, plan.seed, run.cache.fingerprint]
    digest = sha256(
        repr([*settings, run.config.reference_samples, run.config.method, run.config.data.posterior]).encode()
    )
    for state in states:
        for name, value in sorted(state.items()):
            digest.update(name.encode())
            digest.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _kept(path: Path, mark: str) -> Measured | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("fingerprint") != mark:
                return None
            return Measured(**{name: file.get_tensor(name) for name in file.keys()})
    except SafetensorError:
        return None
