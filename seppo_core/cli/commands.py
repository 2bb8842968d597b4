"""The commands, given a function that loads a family's adapter; `seppo_image` and `seppo_video` pass theirs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from seppo_core.cache.manifest import Manifest
from seppo_core.cache.prepare import prepare as encode_winners
from seppo_core.cache.reader import WinnerCache
from seppo_core.cache.verify import find_damage, mend
from seppo_core.cache.writer import PARTS, recorded_model
from seppo_core.config.cpu import tell_if_slow
from seppo_core.config.options import ExportRequest, SampleRequest, VerifyRequest
from seppo_core.config.schema import Config
from seppo_core.data.source import Source
from seppo_core.distributed.ranks import Ranks, make_accelerator, naming_the_lost
from seppo_core.export.comfyui import write_comfyui
from seppo_core.export.model_card import write_card
from seppo_core.export.push import push
from seppo_core.export.sample_folder import SampleFolder
from seppo_core.export.samples import Draw, WriteSample, draw_samples
from seppo_core.export.weights import write_full, write_lora
from seppo_core.io.atomic import whole_folder
from seppo_core.io.locks import ReadersLock
from seppo_core.io.remembered import reading_all
from seppo_core.judging.in_memory import Media
from seppo_core.models.adapter import Adapter
from seppo_core.models.fingerprint import frozen_fingerprint
from seppo_core.models.offload import OffloadedBlocks
from seppo_core.models.quantize import check_packages, quantize_denoiser, quantize_texts
from seppo_core.models.sampling import make_scheduler
from seppo_core.report.wording import counted
from seppo_core.run.checkpoint import weights_hash
from seppo_core.run.damage import run_damage
from seppo_core.run.find_checkpoint import checkpoint_label, find_checkpoint
from seppo_core.training.preview import frame_rate, save_frames, tile
from seppo_core.training.setup import Load, build, load_encoders, load_policy_into, model_dtype
from seppo_core.training.trainer import Trainer


@naming_the_lost()
def prepare(config: Config, load: Load, source: Source, overwrite: bool = False) -> Manifest:
    """Encodes the items of `source` into data.cache, once, on all processes of the launch."""
    d = config.data
    accelerator = make_accelerator()
    ranks = Ranks.of(accelerator)
    if ranks.is_main:
        tell_if_slow(config, accelerator.device.type)
    adapter = load_encoders(config, load, accelerator.device)
    manifest = encode_winners(
        adapter,
        source,
        d.cache,
        model=frozen_fingerprint(adapter, config.model, like=None if overwrite else recorded_model(Path(d.cache))),
        batch_size=d.encode_batch_size,
        dtype=d.cache_dtype,
        flip=d.flip,
        tiled=d.vae_tiling,
        encoding=config.model.encoding(),
        max_rejected_share=d.max_rejected_share,
        overwrite=overwrite,
        workers=d.workers,
        ranks=ranks,
    )
    WinnerCache(d.cache).check_captions(adapter.caption_shapes())
    return manifest


def verify(config: Config, request: VerifyRequest) -> None:
    """Reads all of data.cache again, and what the run in `run` was begun on and has written, if there is one.

    ValueError naming what is damaged, unless it is to be mended.
    """
    with reading_all():
        folder, run = Path(config.data.cache), Path(config.run)
        damaged, files = find_damage(folder)
        elsewhere = run_damage(run, config.model)
    for one in damaged:
        print(f"{folder / one.file} {one.problem}")
    for line in elsewhere:
        print(line)
    if not damaged:
        print(f"{folder}: {files} files are as they were written")
    elif not request.mend:
        raise ValueError(
            f"{len(damaged)} of {files} files of {folder} are damaged; --mend true forgets them, and `prepare` then "
            "encodes them again"
        )
    else:
        again = mend(folder, damaged)
        print(f"{folder}: {len(damaged)} of {files} files were damaged; `prepare` will encode {again} shards again")
    if elsewhere:
        raise ValueError(f"{elsewhere[0]}; bring it back from a copy, or move it away if it is a checkpoint")


@naming_the_lost()
def train(config: Config, load: Load, accept_changes: tuple[str, ...] = (), media: Media | None = None) -> Path:
    """Trains, or continues, the run of `config`; returns its folder (see `setup.build`)."""
    # from before the cache is opened until the last update, or `prepare --overwrite` would change what is learnt
    with ReadersLock(Path(config.data.cache) / PARTS).share():
        parts = build(config, load, accept_changes, media)
        trainer = Trainer(parts)
        with trainer.previews.telling_the_end():
            trainer.run()
    return parts.folder


def sample(config: Config, request: SampleRequest, load: Load, write: WriteSample) -> Path:
    """Draws every prompt with every seed, from a checkpoint, a snapshot or the base; returns the folder with
    samples.jsonl. What the folder holds already is not drawn again."""
    prompts = prompts_of(config, request)
    p = config.preview
    path = find_checkpoint(Path(config.run), request.checkpoint)
    name = checkpoint_label(path)
    out = Path(config.run) / "samples" / name if request.out is None else Path(request.out)
    steps = p.steps if request.steps is None else request.steps
    guidance_scale = p.guidance_scale if request.guidance_scale is None else request.guidance_scale
    scheduler = request.scheduler or p.scheduler
    d = config.data
    settings = {
        "checkpoint": name, "weights": None if path is None else weights_hash(path, request.weights)[:16],
        "base": config.model.base, "size": f"{d.height} x {d.width}" + f" x {d.frames}" * (d.frames > 1),
        "steps": steps, "guidance_scale": guidance_scale, "scheduler": scheduler,
    } | ({"lossless": request.lossless} if d.frames > 1 else {})  # fmt: skip
    folder = SampleFolder(out, settings)
    wanted = folder.missing(prompts, list(request.seeds))
    if wanted:
        check_packages(config.model)
        adapter = load(config)
        device = make_accelerator().device
        load_policy_into(adapter, config, request.checkpoint, request.weights, request.accept_changes)
        quantize_denoiser(adapter, config.model, model_dtype(config), device)
        quantize_texts(adapter, config.model, device)
        if config.model.offload:
            OffloadedBlocks(adapter.denoiser, device)
        adapter.pipeline.to(device)
        draw = Draw(
            adapter,
            adapter.latent_shape(d.height, d.width, d.frames),
            steps=steps,
            guidance_scale=guidance_scale,
            scheduler=make_scheduler(scheduler, adapter.scheduler),
        )
        draw_samples(draw, wanted, folder, write, request.batch_size)
    there = len(set(prompts)) * len(set(request.seeds)) - len(wanted)
    told = f" ({there} of them {'was' if there == 1 else 'were'} there already)" if there else ""
    print(f"{counted(len(prompts), 'prompt')} x {counted(len(request.seeds), 'seed')} from {name}: {out}{told}")
    return out


def export(config: Config, request: ExportRequest, load: Load) -> Path:
    """Writes what plain diffusers loads, a LoRA or the whole pipeline, with a model card; returns its folder."""

    def write(adapter: Adapter, folder: Path, kind: str) -> None:
        if request.format == "comfyui":
            write_comfyui(adapter, folder, config.model.spec.comfyui)
        elif kind == "lora":
            write_lora(adapter, folder)
        elif kind == "full":
            write_full(adapter, folder, None if request.dtype is None else getattr(torch, request.dtype), config.model)
        else:
            raise ValueError(f"export kind {kind!r} is not one of lora and full")

    return export_with(config, request, load, write)


def export_with(
    config: Config, request: ExportRequest, load: Load, write: Callable[[Adapter, Path, str], None]
) -> Path:
    """Lets `write` fill the export's folder, which appears whole and with its card; FileExistsError before loading."""
    kind = request.kind or ("lora" if config.tune.mode == "lora" else "full")
    path = find_checkpoint(Path(config.run), request.checkpoint)
    name = checkpoint_label(path)
    label = kind if request.format == "diffusers" else request.format
    out = Path(config.run) / "export" / f"{label}-{name}" if request.out is None else Path(request.out)
    with whole_folder(out) as temporary:
        adapter = load(config)
        load_policy_into(adapter, config, request.checkpoint, request.weights, request.accept_changes)
        write(adapter, temporary, kind)
        write_card(temporary, config, adapter, kind, name, request.format)
    print(f"{kind} of {name}: {out}")
    if request.push is not None:
        print(f"pushed: {push(out, request.push, f'{kind} of {name}')}")
    return out


def save_grid(samples: Sequence[Sequence[UInt8[Tensor, "f h w 3"]]], stem: Path, config: Config) -> Path:
    """Writes samples, a row a prompt, as one picture or clip, as the run's previews are; returns its file."""
    return save_frames(tile(samples), stem, frame_rate(config))


def prompts_of(config: Config, request: SampleRequest) -> list[str]:
    """The request's prompts, those of its file (one a line), or the preview's; ValueError if there are none."""
    if request.prompt_file is not None:
        prompts = read_prompts(Path(request.prompt_file))
    else:
        prompts = list(request.prompts or config.preview.prompts)
    if not prompts:
        raise ValueError("there is nothing to draw; give --prompts, --prompt_file, or preview.prompts in the config")
    return prompts


def read_prompts(path: Path) -> list[str]:
    """The prompts in a text file, one a line, without empty lines. ValueError if it holds something else than text."""
    try:
        # split at newlines alone: a prompt may hold other separators
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"--prompt_file {path} is not a text in UTF-8 ({error.reason}); save it as one") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if prompts and all(prompt.startswith("{") and prompt.endswith("}") for prompt in prompts):
        raise ValueError(f"--prompt_file {path} holds JSON; give a text file with one prompt a line")
    return prompts
