"""Puts the parts of a run together, in one order, for the command, `plan`, the benchmarks and the Python API."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from accelerate import Accelerator

from seppo_core.cache.reader import WinnerCache
from seppo_core.config.cpu import tell_if_slow
from seppo_core.config.loader import load_config
from seppo_core.config.lora import Continued, check_rank
from seppo_core.config.method import MethodConfig, check_flow, check_not_flow
from seppo_core.config.schema import Config
from seppo_core.distributed.ranks import Ranks, make_accelerator
from seppo_core.io.lazy import import_object
from seppo_core.io.ledger import Ledger
from seppo_core.io.locks import FolderLock
from seppo_core.judging.in_memory import Media
from seppo_core.judging.sample_judge import SampleJudge
from seppo_core.methods.method import Method
from seppo_core.models.adapter import Adapter
from seppo_core.models.attention import set_attention
from seppo_core.models.context import check_context
from seppo_core.models.loading import wants_float32
from seppo_core.models.noise_path import DiffusionNoisePath, FlowNoisePath, NoisePath
from seppo_core.models.quantize import check_packages, quantize_denoiser, quantize_texts
from seppo_core.models.recomputing import recompute
from seppo_core.models.sampling import make_scheduler
from seppo_core.models.tuning import POLICY, load_trainable_state, lora_layers, merge_lora, tune_full, tune_lora
from seppo_core.models.vae import cast, tile_vae
from seppo_core.run.checkpoint import load_weights
from seppo_core.run.find_checkpoint import checkpoint_label, find_checkpoint
from seppo_core.run.folder import holds_run, open_run, with_draws
from seppo_core.run.previews import Drawing
from seppo_core.training.batches import check_form, open_validation, split_items
from seppo_core.training.judged import open_loop_judge
from seppo_core.training.machine import check_machine
from seppo_core.training.preview import Preview, frame_rate
from seppo_core.training.preview_judge import PreviewJudge
from seppo_core.training.same_base import check_base, check_run_base


class Load(Protocol):
    """Loads the base that a config names, in `dtype`, or in that of its training (`weight_dtype`)."""

    def __call__(self, config: Config, dtype: torch.dtype | None = None) -> Adapter: ...


@dataclass(frozen=True, kw_only=True)
class ModelParts:
    """A tuned model with the method that trains it."""

    adapter: Adapter
    noise_path: NoisePath
    """The adapter's own, with the method's timesteps or weights."""
    method: Method


@dataclass(frozen=True, kw_only=True)
class RunParts(ModelParts):
    """All that a run is made of, checked against one another and ready to train."""

    config: Config
    folder: Path
    lock: FolderLock
    """The lock of `folder`, which the first process holds until the run has ended."""
    put_down_changes: Callable[[], None]
    """Writes accepted changes into `folder`, on the first process (`open_run`)."""
    cache: WinnerCache
    validation: WinnerCache | None
    """The items of data.validation_cache."""
    preview: Preview | None
    """None if the config names no prompts."""
    judge: PreviewJudge | None
    """What scores previews; on the first process alone, and if the config names one."""
    loop_judge: SampleJudge | None
    """What scores the policy's samples (loop.judge); on the first process alone, and if the config names one."""
    media: Media | None
    """How samples become files; for judges."""
    accelerator: Accelerator


def build(config: Config, load: Load, accept_changes: tuple[str, ...] = (), media: Media | None = None) -> RunParts:
    """The parts of the run of `config`, whose folder is locked, and opened or found again. Refuses what cannot work, if
    possible before weights load. A judge of previews needs `media`.

    ValueError if config, cache, model and folder do not fit together; a run that began otherwise is refused too, but
    for the differences that `accept_changes` names (`TrainRequest`). All processes must call it.
    """
    config.method.warn()
    cache = WinnerCache(Path(config.data.cache))
    folder = Path(config.run)
    config = with_draws(config, folder)
    check_form(config, cache)
    split_items(len(cache), config.data.validation, config.seed, config.draws)
    validation = open_validation(config.data, cache)
    # the first Accelerator of a process fixes its precision
    accelerator = make_accelerator(config.loop.mixed_precision, config.loop.deterministic)
    ranks = Ranks.of(accelerator)
    if ranks.is_main:
        tell_if_slow(config, accelerator.device.type)
    check_machine(config, accelerator.device, ranks)
    lock = FolderLock(folder)
    changes: list[Callable[[], None]] = []
    judges: list[PreviewJudge] = []
    loop_judges: list[SampleJudge] = []
    with ExitStack() as on_error:
        on_error.callback(lock.release)
        # what the first process refuses must not leave the others waiting for it
        ranks.run_on_main(lambda: changes.append(_begin(lock, config, cache.fingerprint, accept_changes)))
        if config.preview.judge is not None:
            if media is None:
                raise ValueError("preview.judge is set, but nothing says how samples become files; give `media`")
            ranks.run_on_main(lambda: judges.append(PreviewJudge.open(config, media, folder, accelerator.device)))
        if config.loop.judge is not None:
            if media is None:
                raise ValueError("loop.judge is set, but nothing says how samples become files; give `media`")
            ranks.run_on_main(
                lambda: loop_judges.append(open_loop_judge(config.loop, media, folder, accelerator.device))
            )
        adapter = load(config)
        ranks.run_on_main(lambda: check_base(config, cache, adapter, accept_changes))
        method = make_method(config.method)
        noise_path = with_method(adapter.path, method)
        if config.generated:
            # refused now, and not at the first sample
            make_scheduler(config.reference_samples.scheduler, adapter.scheduler)
        _check_latents(config, cache, adapter)
        check_context(adapter, config.model, config.loop.context_parallel, tuple(cache.latent_shape))
        quantize_texts(adapter, config.model, accelerator.device)
        preview = make_preview(config, adapter, folder)
        if preview is not None or config.reference_samples.reencode or config.loop.judge is not None:
            adapter.pipeline.vae.to(accelerator.device)
        if config.reference_samples.reencode:
            _encode_as_prepared(adapter, config, cache)
        tune(adapter, config)
        _forget_text_encoders(adapter)
        quantize_denoiser(adapter, config.model, compute_dtype(config), accelerator.device)
        set_attention(adapter, config.loop.attention, accelerator.device)
        if config.loop.gradient_checkpointing:
            recompute(adapter.denoiser, config.loop.checkpointing_share)
        # from here on it is the run's to free
        on_error.pop_all()
    return RunParts(
        adapter=adapter, noise_path=noise_path, method=method, config=config, folder=folder, lock=lock,
        put_down_changes=lambda: [put() for put in changes], cache=cache, validation=validation, preview=preview,
        judge=judges[0] if judges else None, loop_judge=loop_judges[0] if loop_judges else None, media=media,
        accelerator=accelerator,
    )  # fmt: skip


def _begin(lock: FolderLock, config: Config, winners: str, accept: tuple[str, ...]) -> Callable[[], None]:
    """Takes the run's folder, in which nothing is written before, and opens the run."""
    # first, for a lock would leave its file in a folder of the user's
    holds_run(lock.folder)
    lock.__enter__()
    return open_run(lock.folder, config, winners, accept)


def build_model(config: Config, adapter: Adapter) -> ModelParts:
    """`adapter` tuned as `config` says, with its method, for those who train or measure outside of a run."""
    method = make_method(config.method)
    noise_path = with_method(adapter.path, method)
    tune(adapter, config)
    return ModelParts(adapter=adapter, noise_path=noise_path, method=method)


def load_encoders(config: Config, load: Load, device: torch.device) -> Adapter:
    """The adapter for `prepare`: VAE and text encoders on `device`, tiled if asked for; a denoiser without memory."""
    check_packages(config.model)
    # nothing is trained here, so that no weight has to be exact
    adapter = load(config, model_dtype(config))
    for name, module in adapter.pipeline.components.items():
        if isinstance(module, torch.nn.Module):
            module.to("meta" if name == adapter.component else device)
    quantize_texts(adapter, config.model, device)
    if config.data.vae_tiling:
        tile_vae(adapter.pipeline.vae)
    return adapter


def make_method(config: MethodConfig) -> Method:
    """The method that the section `method` of a config describes."""
    return import_object(config.spec.implementation)(**vars(config))


def with_method(path: NoisePath, method: MethodConfig) -> NoisePath:
    """`path` with the method's timesteps (of a flow) or weights (of a diffusion).

    ValueError if the method sets what such a path does not have.
    """
    if isinstance(path, FlowNoisePath):
        check_flow(method, "this model")
        return replace(path, density=method.timestep_density, shift=method.timestep_shift)
    if isinstance(path, DiffusionNoisePath):
        check_not_flow(method, "this model")
        return replace(path, min_snr_gamma=method.min_snr_gamma)
    raise ValueError(f"{type(path).__name__} is neither a DiffusionNoisePath nor a FlowNoisePath; give one of them")


def tune(adapter: Adapter, config: Config) -> None:
    """Marks what is trained, and puts the denoiser into evaluation mode: dropout would part policy and reference.

    A LoRA to start from goes on being trained in LoRA mode, and is merged for full tuning.
    """
    t = config.tune
    if config.model.lora is not None:
        adapter.load_lora(config.model.lora, POLICY)
        if t.mode == "full":
            merge_lora(adapter.denoiser)
        else:
            found = adapter.denoiser.peft_config[POLICY]
            check_rank(config, Continued(found.r, found.lora_alpha, bool(found.alpha_pattern)))
        _check_text_encoders(adapter, config)
    if t.mode == "full":
        tune_full(adapter.denoiser, adapter.trainable[t.scope])
    else:
        tune_lora(adapter.denoiser, adapter.lora_targets[t.scope], t.rank, t.alpha, config.seed)
    adapter.denoiser.eval()


def load_policy_into(
    adapter: Adapter,
    config: Config,
    checkpoint: str,
    weights: Literal["policy", "ema"] | None = None,
    accept_changes: tuple[str, ...] = (),
) -> str:
    """Tunes the adapter and gives its denoiser the weights of a checkpoint or snapshot (see
    `find_checkpoint`), or none of "base"; returns its name.

    `weights` None takes the running average where the config keeps one. ValueError if the adapter's base is not the one
    that the checkpoint was trained on, unless `accept_changes` names "model".
    """
    path = find_checkpoint(Path(config.run), checkpoint)
    if path is not None and "model" not in accept_changes:
        # a checkpoint lies in `checkpoints` of its run, a snapshot in `pool`
        check_run_base(path.absolute().parents[1], config, adapter)
    tune(adapter, config)
    if path is not None:
        load_trainable_state(adapter.denoiser, load_weights(path, weights, config.optimizer.ema_decay is not None))
    return checkpoint_label(path)


def model_dtype(config: Config) -> torch.dtype:
    """The dtype that model.dtype names."""
    return getattr(torch, config.model.dtype)


def compute_dtype(config: Config) -> torch.dtype:
    """The dtype that frozen matrices are multiplied in: autocast's, else that of the weights."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.loop.mixed_precision, model_dtype(config))


def weight_dtype(config: Config) -> torch.dtype:
    """The dtype to load the pipeline in for training: model.dtype under a LoRA; float32 if weights are trained, since a
    start that was rounded to half precision would not be the base."""
    return torch.float32 if config.tune.mode == "full" else model_dtype(config)


def make_preview(config: Config, adapter: Adapter, folder: Path) -> Preview | None:
    """The drawing of the fixed prompts, or None if the config names no prompts."""
    p = config.preview
    if not p.prompts:
        return None
    return Preview(
        adapter,
        folder / "previews",
        adapter.encode_prompts(list(p.prompts)),
        adapter.encode_prompts([""]),
        adapter.latent_shape(config.data.height, config.data.width, config.data.frames),
        every=p.every,
        steps=p.steps,
        guidance_scale=p.guidance_scale,
        scheduler=make_scheduler(p.scheduler, adapter.scheduler),
        columns=p.per_prompt,
        batch_size=p.batch_size,
        seed=p.seed,
        with_start=_same_preview(config, folder),
        ledger=Ledger(folder),
        scored=0 if p.judge is None else p.judged_per_prompt or p.per_prompt,
        fps=frame_rate(config),
    )


def _same_preview(config: Config, folder: Path) -> bool:
    """Whether the run began with these prompts, seed and solver, so that its first picture is of the same samples."""
    return Drawing.of(load_config(folder / "config.yaml", type(config), warn=False)) == Drawing.of(config)


def _check_latents(config: Config, cache: WinnerCache, adapter: Adapter) -> None:
    expected = adapter.latent_shape(config.data.height, config.data.width, config.data.frames)
    if tuple(cache.latent_shape) != expected:
        raise ValueError(
            f"{config.data.cache} holds latents of {tuple(cache.latent_shape)}, this model and size give {expected}; "
            "prepare the data for it again, into another data.cache"
        )
    cache.check_captions(adapter.caption_shapes())


def _check_text_encoders(adapter: Adapter, config: Config) -> None:
    for name, module in adapter.pipeline.components.items():
        if name.startswith("text_encoder") and module is not None and lora_layers(module):
            raise ValueError(
                f"model.lora={config.model.lora} also changes the {name}, which stays frozen and unchanged here; "
                "use a LoRA of the denoiser alone"
            )


def _encode_as_prepared(adapter: Adapter, config: Config, cache: WinnerCache) -> None:
    """Tiles and precision of the VAE as `prepare` had them: samples that are encoded again are to differ from winners
    in nothing that the autoencoder adds."""
    # of the cache: the config may have been changed since
    if cache.manifest.settings["tiled"]:
        tile_vae(adapter.pipeline.vae)
    if not wants_float32(adapter.pipeline):
        recorded = cache.manifest.settings.get("model.dtype", config.model.dtype)
        cast(adapter.pipeline.vae, getattr(torch, recorded))


def _forget_text_encoders(adapter: Adapter) -> None:
    """Frees the memory of what has no more text to read: the cache holds captions encoded, the preview its prompts. A
    T5-XXL would else lie beside every process to the end."""
    for name in adapter.pipeline.components:
        if name.startswith("text_encoder"):
            setattr(adapter.pipeline, name, None)
