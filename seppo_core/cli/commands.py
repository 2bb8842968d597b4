"""What the commands do once a family's adapter is at hand. Image and video hand down how to load one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

import torch

from seppo_core.cache.manifest import Manifest
from seppo_core.cache.prepare import prepare as encode_winners
from seppo_core.cache.reader import WinnerCache
from seppo_core.cache.verify import find_damage, mend
from seppo_core.config.config_checks import check_flow, check_not_flow
from seppo_core.config.loader import load_config
from seppo_core.config.method import MethodConfig
from seppo_core.config.options import ExportRequest, SampleRequest, VerifyRequest
from seppo_core.config.schema import Config
from seppo_core.data.source import Source
from seppo_core.distributed.ranks import Ranks, make_accelerator
from seppo_core.export.model_card import write_card
from seppo_core.export.samples import Draw, WriteSample, draw_samples
from seppo_core.export.weights import merge_lora, write_full, write_lora
from seppo_core.io.atomic import whole_folder
from seppo_core.methods.objectives import Ditto, Dpo, Kto, Mapo, Method, Seppo, Sft, Spin, Sspo
from seppo_core.models.adapter import Adapter
from seppo_core.models.fingerprint import denoiser_fingerprint, frozen_fingerprint
from seppo_core.models.loading import wants_float32
from seppo_core.models.noise_path import DiffusionNoisePath, FlowNoisePath
from seppo_core.models.noise_path import Path as NoisePath
from seppo_core.models.sampling import make_scheduler
from seppo_core.models.tuning import POLICY, load_trainable_state, lora_layers, tune_full, tune_lora
from seppo_core.models.vae import cast, tile_vae
from seppo_core.run.checkpoint import load_weights
from seppo_core.run.folder import check_model, find_checkpoint, open_run
from seppo_core.run.logging import require_wandb
from seppo_core.training.preview import Preview
from seppo_core.training.trainer import Trainer


class Load(Protocol):
    """Loads what a config names, in `dtype`, or in that of its training (`weight_dtype`)."""

    def __call__(self, config: Config, dtype: torch.dtype | None = None) -> Adapter: ...


def make_method(config: Config) -> Method:
    """The recipe that the config names."""
    m, beta = config.method, config.method.effective_beta
    if m.name == "sft":
        return Sft()
    if m.name == "mapo":
        return Mapo(beta, m.guard)
    if m.name == "kto":
        return Kto(beta, m.kto_weights)
    family = {"seppo": Seppo, "sspo": Sspo, "dpo": Dpo, "spin": Spin, "ditto": Ditto}[m.name]
    return family(beta, m.effective_flipper, m.anchor_draws, m.anchor_per, m.guard, m.sft_weight)


def with_method(path: NoisePath, method: MethodConfig) -> NoisePath:
    """`path` with the method's timesteps (a flow's) or weights (a diffusion's).

    ValueError where the method sets what such a path has not.
    """
    if isinstance(path, FlowNoisePath):
        check_flow(method, "this model")
        return replace(path, density=method.timestep_density, shift=method.timestep_shift)
    if isinstance(path, DiffusionNoisePath):
        check_not_flow(method, "this model")
        return replace(path, min_snr_gamma=method.min_snr_gamma)
    raise ValueError(f"{type(path).__name__} is neither a DiffusionPath nor a FlowPath; the method cannot be applied")


def tune(adapter: Adapter, config: Config) -> None:
    """Marks what is trained. A LoRA to start from goes on being trained in LoRA mode, and is merged for full tuning."""
    t = config.tune
    if config.model.lora is not None:
        adapter.load_lora(config.model.lora, POLICY)
        if t.mode == "full":
            merge_lora(adapter)
        else:
            _check_lora(adapter, config)
        _check_text_encoders(adapter, config)
    if t.mode == "full":
        tune_full(adapter.denoiser, adapter.trainable[t.scope])
    else:
        tune_lora(adapter.denoiser, adapter.lora_targets[t.scope], t.rank, t.alpha, config.seed)


def prepare(config: Config, load: Load, source: Source, overwrite: bool = False) -> Manifest:
    """Encodes the items of `source` into data.cache, once, on all processes of the launch."""
    d = config.data
    accelerator = make_accelerator()
    ranks = Ranks.of(accelerator)
    # nothing is trained here, so that no weight has to be exact
    adapter = load(config, model_dtype(config))
    for name, module in adapter.pipeline.components.items():
        if isinstance(module, torch.nn.Module):
            # the denoiser has no part in this, and its memory is better used
            module.to("meta" if name == adapter.component else accelerator.device)
    if d.vae_tiling:
        tile_vae(adapter.pipeline.vae)
    return encode_winners(
        adapter,
        source,
        d.cache,
        model=frozen_fingerprint(adapter),
        batch_size=d.encode_batch_size,
        dtype=d.cache_dtype,
        flip=d.flip,
        tiled=d.vae_tiling,
        max_rejected_share=d.max_rejected_share,
        overwrite=overwrite,
        workers=d.workers,
        ranks=ranks,
    )


def verify(config: Config, request: VerifyRequest) -> None:
    """Reads all of data.cache again. ValueError naming what is damaged, unless it is to be mended."""
    folder = Path(config.data.cache)
    damaged, files = find_damage(folder)
    if not damaged:
        print(f"{folder}: {files} files are as they were written")
        return
    for one in damaged:
        print(f"{folder / one.file} {one.problem}")
    if not request.mend:
        raise ValueError(
            f"{len(damaged)} of {files} files of {folder} are damaged; --mend true forgets them, and `prepare` then "
            "encodes them again"
        )
    again = mend(folder, damaged)
    print(f"{folder}: {len(damaged)} of {files} files were damaged; `prepare` will encode {again} shards again")


def train(config: Config, load: Load, accept_changes: tuple[str, ...] = ()) -> Path:
    """Trains, or continues, the run of `config`; returns its folder. Refuses what cannot work before weights load.

    A run that began otherwise is refused too, but for what `accept_changes` names (`TrainRequest`).
    """
    if config.log.wandb is not None:
        require_wandb()
    cache = WinnerCache(Path(config.data.cache))
    folder = Path(config.run)
    _check_cache(config, cache)
    # the first Accelerator of a process fixes its precision; a plain one here would refuse the trainer's
    accelerator = make_accelerator(config.loop.mixed_precision)
    # what the first process refuses must not leave the others waiting for it
    ranks = Ranks.of(accelerator)
    ranks.run_on_main(lambda: open_run(folder, config, cache.fingerprint, accept_changes))
    adapter = load(config)
    model = denoiser_fingerprint(adapter)
    ranks.run_on_main(lambda: check_model(folder, model, accept_changes))
    adapter.path = with_method(adapter.path, config.method)
    expected = adapter.latent_shape(config.data.height, config.data.width, config.data.frames)
    if tuple(cache.latent_shape) != expected:
        raise ValueError(
            f"{config.data.cache} holds latents of {tuple(cache.latent_shape)}, this model and size give {expected}; "
            "prepare the data for it again, into another data.cache"
        )
    if cache.manifest.model != (model := frozen_fingerprint(adapter)):
        raise ValueError(
            f"{config.data.cache} was prepared with another VAE or text encoder ({cache.manifest.model}) than this "
            f"model's ({model}); prepare the data for it again, into another data.cache"
        )
    device = accelerator.device
    preview = make_preview(config, adapter, folder, device)
    if preview is not None or config.reference_samples.reencode:
        adapter.pipeline.vae.to(device)
    if config.reference_samples.reencode:
        _encode_as_prepared(adapter, config, cache)
    tune(adapter, config)
    _forget_text_encoders(adapter)
    Trainer(config, adapter, cache, make_method(config), folder).run(preview)
    return folder


def make_preview(config: Config, adapter: Adapter, folder: Path, device: torch.device) -> Preview | None:
    """The fixed prompts' drawing, or None where the config names no prompts."""
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
        seed=p.seed,
        with_start=_same_preview(config, folder),
    )


def _same_preview(config: Config, folder: Path) -> bool:
    """Whether the run began with these prompts, seed and solver, so that its first picture is of the same samples."""
    began = load_config(folder / "config.yaml", type(config)).preview
    return replace(began, every=0) == replace(config.preview, every=0)


def load_policy_into(
    adapter: Adapter, config: Config, checkpoint: str, weights: Literal["policy", "ema"] | None = None
) -> str:
    """Gives the adapter's denoiser the weights of a checkpoint ("latest", a number of updates, a folder, or "base");
    returns the checkpoint's name."""
    path = find_checkpoint(Path(config.run), checkpoint)
    tune(adapter, config)
    if path is None:
        return "base"
    load_trainable_state(adapter.denoiser, load_weights(path, weights))
    return path.name


def sample(config: Config, request: SampleRequest, load: Load, write: WriteSample) -> Path:
    """Draws every prompt with every seed, from a checkpoint or the base; returns the folder with samples.jsonl."""
    prompts = prompts_of(config, request)
    p = config.preview
    adapter = load(config)
    name = load_policy_into(adapter, config, request.checkpoint, request.weights)
    out = Path(config.run) / "samples" / name if request.out is None else Path(request.out)
    adapter.pipeline.to(make_accelerator().device)
    draw = Draw(
        adapter,
        adapter.latent_shape(config.data.height, config.data.width, config.data.frames),
        steps=p.steps if request.steps is None else request.steps,
        guidance_scale=p.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        scheduler=make_scheduler(request.scheduler or p.scheduler, adapter.scheduler),
    )
    draw_samples(draw, prompts, list(request.seeds), out, write, request.batch_size)
    print(f"{len(prompts)} prompts x {len(request.seeds)} seeds from {name}: {out}")
    return out


def export(config: Config, request: ExportRequest, load: Load) -> Path:
    """Writes what plain diffusers loads, a LoRA or the whole pipeline, with a model card; returns its folder."""

    def write(adapter: Adapter, folder: Path, kind: str) -> None:
        if kind == "lora":
            write_lora(adapter, folder)
        elif kind == "full":
            write_full(adapter, folder, None if request.dtype is None else getattr(torch, request.dtype))
        else:
            raise ValueError(f"export kind {kind!r} is not one of lora and full")

    return export_with(config, request, load, write)


def export_with(
    config: Config, request: ExportRequest, load: Load, write: Callable[[Adapter, Path, str], None]
) -> Path:
    """Lets `write` fill the export's folder, which appears whole and with its card; FileExistsError before loading."""
    kind = request.kind or ("lora" if config.tune.mode == "lora" else "full")
    path = find_checkpoint(Path(config.run), request.checkpoint)
    name = "base" if path is None else path.name
    out = Path(config.run) / "export" / f"{kind}-{name}" if request.out is None else Path(request.out)
    with whole_folder(out) as temporary:
        adapter = load(config)
        load_policy_into(adapter, config, request.checkpoint, request.weights)
        write(adapter, temporary, kind)
        write_card(temporary, config, adapter, kind, name)
    print(f"{kind} of {name}: {out}")
    return out


def prompts_of(config: Config, request: SampleRequest) -> list[str]:
    """The request's prompts, those of its file (one a line), or the preview's; ValueError where there are none."""
    if request.prompt_file is not None:
        lines = Path(request.prompt_file).read_text(encoding="utf-8").splitlines()
        prompts = [line.strip() for line in lines if line.strip()]
    else:
        prompts = list(request.prompts or config.preview.prompts)
    if not prompts:
        raise ValueError("there is nothing to draw; give --prompts, --prompt-file, or preview.prompts in the config")
    return prompts


def _check_cache(config: Config, cache: WinnerCache) -> None:
    if config.data.flip and not cache.manifest.mirrored:
        raise ValueError(
            f"data.flip=true, but {config.data.cache} was prepared without it; prepare again with data.flip"
        )
    needed = config.method.recipe.form
    if not config.method.recipe.learns_from(cache.form):
        raise ValueError(
            f"method.name={config.method.name} learns from {needed}, but {config.data.cache} holds {cache.form}; "
            f"prepare the data with data.form={needed} into another data.cache"
        )


def model_dtype(config: Config) -> torch.dtype:
    """What model.dtype names."""
    return getattr(torch, config.model.dtype)


def weight_dtype(config: Config) -> torch.dtype:
    """What to load the pipeline in for training: model.dtype under a LoRA; float32 where weights are trained, since a
    start that was rounded to half precision would not be the base."""
    return torch.float32 if config.tune.mode == "full" else model_dtype(config)


def _encode_as_prepared(adapter: Adapter, config: Config, cache: WinnerCache) -> None:
    """Tiles and precision of the VAE as `prepare` had them: samples that are encoded again are to differ from winners
    in nothing that the autoencoder adds."""
    # of the cache: the config may have been changed since
    if cache.manifest.settings["tiled"]:
        tile_vae(adapter.pipeline.vae)
    if not wants_float32(adapter.pipeline):
        cast(adapter.pipeline.vae, model_dtype(config))


def _forget_text_encoders(adapter: Adapter) -> None:
    """Frees the memory of what has no more text to read: the cache holds captions encoded, the preview its prompts. A
    T5-XXL would else lie beside every process to the end."""
    for name in adapter.pipeline.components:
        if name.startswith("text_encoder"):
            setattr(adapter.pipeline, name, None)


def _check_text_encoders(adapter: Adapter, config: Config) -> None:
    for name, module in adapter.pipeline.components.items():
        if name.startswith("text_encoder") and module is not None and lora_layers(module):
            raise ValueError(
                f"model.lora={config.model.lora} also changes the {name}, which stays frozen and unchanged here; "
                "use a LoRA of the denoiser alone"
            )


def _check_lora(adapter: Adapter, config: Config) -> None:
    found = adapter.denoiser.peft_config[POLICY]
    if found.r != config.tune.rank:
        raise ValueError(
            f"tune.rank={config.tune.rank}, but the LoRA {config.model.lora} that is continued has rank {found.r}; "
            f"set tune.rank={found.r}"
        )
    if config.tune.alpha is not None and config.tune.alpha != found.lora_alpha:
        raise ValueError(
            f"tune.alpha={config.tune.alpha}, but the LoRA {config.model.lora} that is continued has alpha "
            f"{found.lora_alpha}; set tune.alpha={found.lora_alpha} or leave it null"
        )
