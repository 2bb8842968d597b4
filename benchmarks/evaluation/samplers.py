"""Models ready to draw: through our adapters if the family is known, else through the pipeline's own call."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers import SchedulerMixin
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

from benchmarks.evaluation.models import ModelSpec, run_config
from benchmarks.evaluation.native import vae_factor
from benchmarks.evaluation.protocols import Protocol
from seppo_core.export.samples import to_frames
from seppo_core.io import purposes
from seppo_core.io.lazy import import_object
from seppo_core.io.rng import keyed_generator, keyed_normal
from seppo_core.models.adapter import Adapter
from seppo_core.models.base_files import local_place
from seppo_core.models.loading import pipeline_class
from seppo_core.models.lora_files import load_lora_file
from seppo_core.models.sampling import make_scheduler, sample
from seppo_core.models.text import too_long
from seppo_core.models.vae import cast
from seppo_core.training.setup import load_policy_into
from seppo_image import commands as image_commands
from seppo_image.config import ImageConfig, ImageModel
from seppo_video import commands as video_commands
from seppo_video.config import MotionModel, VideoModel

IMAGE_FAMILIES = {model.spec.pipeline: model for model in ImageModel.variants().values()}
VIDEO_FAMILIES = {model.spec.pipeline: model for model in VideoModel.variants().values()}
"""Records by the pipeline class that a folder or hub id was saved from."""
ANIMATED = {model.spec.image_pipeline: model for model in VIDEO_FAMILIES.values() if model.spec.image_pipeline}
"""Samplers of image models with a motion adapter."""
DETERMINISTIC = (
    "DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler",
)  # fmt: skip
"""Solvers that draw nothing after the initial noise, so that a sequence of prompts can be gone on with."""


class Job(NamedTuple):
    """One sample to draw: a prompt, and the seed that its noise comes from."""

    prompt: str
    seed: int


class Sampler(ABC):
    """Draws 8-bit frames. What is drawn for a job does not depend on the others in its batch, but for rounding."""

    @abstractmethod
    def draw(self, jobs: Sequence[Job]) -> UInt8[Tensor, "b f h w 3"]: ...

    @abstractmethod
    def truncated(self, prompts: Sequence[str]) -> list[int] | None:
        """Indices of the prompts whose end the text encoder does not read; None if that cannot be told."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """The device that draws, for the report."""


class AdapterSampler(Sampler):
    """A model of a family of ours; noise is float32 from the job's own seed, or from one generator that runs on."""

    def __init__(self, adapter: Adapter, protocol: Protocol):
        self.adapter = adapter
        self.protocol = protocol
        self.shape = adapter.latent_shape(protocol.height, protocol.width, protocol.frames)
        self.scheduler: SchedulerMixin = make_scheduler(protocol.scheduler, adapter.scheduler)
        self._unconditional = adapter.encode_prompts([""])
        self._sequence: Generator | None = None
        if protocol.seed_mode == "sequential":
            if type(self.scheduler).__name__ not in DETERMINISTIC:
                raise ValueError(
                    f"--seed-mode sequential with {type(self.scheduler).__name__}, which draws noise at every step; "
                    f"use one of {', '.join(DETERMINISTIC)}, or per-prompt seeds"
                )
            self._sequence = Generator(adapter.device).manual_seed(protocol.seeds[0])

    @torch.no_grad()
    def draw(self, jobs: Sequence[Job]) -> UInt8[Tensor, "b f h w 3"]:
        device = self.adapter.device
        keys = [(job.seed, "quality", job.prompt) for job in jobs]
        condition = self.adapter.encode_prompts([job.prompt for job in jobs])
        latents = sample(
            self.adapter,
            self.adapter.denoiser,
            {key: value.to(device) for key, value in condition.items()},
            noise=self._noise(keys).to(device),
            steps=self.protocol.steps,
            guidance_scale=self.protocol.guidance_scale,
            unconditional={key: value.to(device) for key, value in self._unconditional.items()},
            scheduler=self.scheduler,
            generators=[keyed_generator(*key, purposes.SAMPLER) for key in keys],
        )
        return to_frames(self.adapter.decode(latents).float().cpu())

    def skip(self) -> None:
        """Draws and drops one sample's noise, so that a sequence goes on after samples that are there already."""
        self._in_sequence()

    def truncated(self, prompts: Sequence[str]) -> list[int]:
        return self.adapter.truncated(list(prompts))

    def describe(self) -> dict[str, str]:
        return {
            "pipeline": type(self.adapter.pipeline).__name__,
            "solver": type(self.scheduler).__name__,
            "dtype": str(next(self.adapter.denoiser.parameters()).dtype).removeprefix("torch."),
            "device": self.adapter.device.type,
        }

    def _noise(self, keys: Sequence[tuple[int, str, str]]) -> Float[Tensor, " b *shape"]:
        if self._sequence is None:
            return torch.stack([keyed_normal(self.shape, *key) for key in keys])
        return torch.cat([self._in_sequence() for _ in keys])

    def _in_sequence(self) -> Float[Tensor, " 1 *shape"]:
        """The next noise as diffusers draws it: in the model's own dtype, on its own device."""
        generator = self._sequence
        dtype = next(self.adapter.pipeline.text_encoder.parameters()).dtype
        return torch.randn((1, *self.shape), generator=generator, device=generator.device, dtype=dtype).float()


class PipelineSampler(Sampler):
    """Any other diffusers pipeline, called as its documentation says; each sample has its own generator."""

    def __init__(self, pipeline: DiffusionPipeline, protocol: Protocol):
        if protocol.seed_mode == "sequential":
            raise ValueError(f"--seed-mode sequential is for our own families; {type(pipeline).__name__} is none")
        self.pipeline = pipeline
        self.protocol = protocol
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = make_scheduler(protocol.scheduler, pipeline.scheduler)
        accepted = inspect.signature(type(pipeline).__call__).parameters
        p = protocol
        wanted = {
            "height": p.height, "width": p.width, "num_frames": p.frames if p.kind == "video" else None,
            "num_inference_steps": p.steps, "guidance_scale": p.guidance_scale,
        }  # fmt: skip
        self.options = {name: value for name, value in wanted.items() if value is not None and name in accepted}

    @torch.no_grad()
    def draw(self, jobs: Sequence[Job]) -> UInt8[Tensor, "b f h w 3"]:
        generators = [keyed_generator(job.seed, "quality", job.prompt) for job in jobs]
        result = self.pipeline([j.prompt for j in jobs], generator=generators, output_type="pt", **self.options)
        pixels = result.frames if self.protocol.kind == "video" else rearrange(result.images, "b c h w -> b 1 c h w")
        pixels = torch.as_tensor(pixels).float().cpu()
        if not pixels.isfinite().all():
            raise FloatingPointError("pixels are not finite: the denoiser diverged, or float16 overflowed")
        return rearrange((pixels.clamp(0, 1) * 255).round().to(torch.uint8), "b f c h w -> b f h w c")

    def truncated(self, prompts: Sequence[str]) -> list[int] | None:
        tokenizer = self.pipeline.components.get("tokenizer")
        # a tokenizer without a limit says 1e30
        if tokenizer is None or tokenizer.model_max_length > 1e6:
            return None
        return too_long(tokenizer, list(prompts))

    def describe(self) -> dict[str, str]:
        modules = [module for module in self.pipeline.components.values() if isinstance(module, nn.Module)]
        return {
            "pipeline": type(self.pipeline).__name__,
            "solver": type(self.pipeline.scheduler).__name__,
            "dtype": str(next(modules[0].parameters()).dtype).removeprefix("torch."),
            "device": self.pipeline.device.type,
        }


def load_sampler(spec: ModelSpec, protocol: Protocol, device: torch.device, dtype: str) -> Sampler:
    """The model of `spec`, on `device`. ValueError if it is not of the protocol's kind or its parts do not fit."""
    check_fits(spec, protocol)
    if spec.is_run:
        return AdapterSampler(_on(_run_adapter(spec, dtype), device, dtype), protocol)
    found = pipeline_class(spec.base, spec.revision)
    adapter = _adapter(spec, protocol, found, dtype)
    if adapter is not None:
        _put_on(adapter, spec)
        return AdapterSampler(_on(adapter, device, dtype), protocol)
    pipeline = DiffusionPipeline.from_pretrained(
        spec.base, revision=spec.revision, use_safetensors=True, dtype=getattr(torch, dtype)
    )
    if (lora := spec.part("lora")) is not None:
        component = next(name for name in ("transformer", "unet") if name in pipeline.components)
        load_lora_file(pipeline, component, lora, "lora")
    return PipelineSampler(pipeline.to(device), protocol)


def check_fits(spec: ModelSpec, protocol: Protocol) -> None:
    """ValueError if a model is not of the protocol's kind or has a part that it cannot use; reads no weights.

    Asked of every model before the first is drawn from, which may take hours.
    """
    if spec.is_pictures:
        return
    model = run_config(spec).model if spec.is_run else spec
    factor = vae_factor(model.base, model.revision) or 1
    if protocol.height % factor or protocol.width % factor:
        raise ValueError(
            f"--height {protocol.height}, --width {protocol.width}: {model.base} needs multiples of {factor}, the "
            "pixels of its VAE's latents"
        )
    if spec.is_run:
        kind = "image" if isinstance(run_config(spec), ImageConfig) else "video"
        if kind != protocol.kind:
            raise ValueError(f"{spec.base} is a run on {kind}s, {protocol.name} measures {protocol.kind}s")
        return
    found, motion = pipeline_class(spec.base, spec.revision), spec.part("motion")
    if protocol.kind == "image":
        if motion is not None:
            raise ValueError("motion= is for video protocols")
        if found in VIDEO_FAMILIES:
            raise ValueError(f"{spec.base} is a video model ({found}), {protocol.name} measures pictures")
        ours = found in IMAGE_FAMILIES
    else:
        ours = found in VIDEO_FAMILIES or (motion is not None and found in ANIMATED)
        if not ours and found in IMAGE_FAMILIES:
            raise ValueError(
                f"{spec.base} is an image model ({found}), {protocol.name} measures clips; "
                "add +motion=PLACE with a motion adapter"
            )
    if not ours and (unusable := [part for part, _ in spec.parts if part != "lora"]):
        raise ValueError(f"{unusable[0]}= does not go with {found}; only lora= does")
    record, place = _record(spec, protocol, found, "float32"), local_place(spec.base, spec.revision)
    if record is not None and place is not None and (problems := record.base_problems(place)):
        raise ValueError("; ".join(problems).replace("model.single_file_config", "+config"))


def _run_adapter(spec: ModelSpec, dtype: str) -> Adapter:
    config = run_config(spec)
    # the folder may have been moved since
    config = replace(config, run=spec.base, model=replace(config.model, dtype=dtype))
    adapter = (image_commands if isinstance(config, ImageConfig) else video_commands).load(config)
    load_policy_into(adapter, config, spec.checkpoint)
    return adapter


def _adapter(spec: ModelSpec, protocol: Protocol, found: str, dtype: str) -> Adapter | None:
    """The model of `spec`; None for a pipeline that is not of a family of ours."""
    model = _record(spec, protocol, found, dtype)
    return None if model is None else import_object(model.spec.adapter).load(model, getattr(torch, dtype))


def _record(spec: ModelSpec, protocol: Protocol, found: str, dtype: str) -> ImageModel | VideoModel | None:
    """The record of the family, None if it is none of ours. An image model with a motion adapter is AnimateDiff."""
    common = {
        "base": spec.base, "dtype": dtype, "vae": spec.part("vae"), "revision": spec.revision,
        "single_file_config": spec.part("config"),
    }  # fmt: skip
    motion = spec.part("motion")
    if protocol.kind == "image":
        families = IMAGE_FAMILIES
    else:
        families = VIDEO_FAMILIES if motion is None else VIDEO_FAMILIES | ANIMATED
    if found not in families:
        return None
    if issubclass(families[found], MotionModel):
        # linear betas for published motion modules; a whole AnimateDiff pipeline knows its own
        schedule = "base" if motion is None else "linear"
        return families[found](**common, motion_adapter=motion, schedule=schedule)
    return families[found](**common)


def _put_on(adapter: Adapter, spec: ModelSpec) -> None:
    if (unet := spec.part("unet")) is not None:
        kind = type(adapter.denoiser)
        try:
            other = kind.from_pretrained(unet, use_safetensors=True)
        except OSError:
            other = kind.from_pretrained(unet, subfolder=adapter.component, use_safetensors=True)
        adapter.denoiser.load_state_dict(other.state_dict())
    if (lora := spec.part("lora")) is not None:
        adapter.load_lora(lora, "lora")


def _on(adapter: Adapter, device: torch.device, dtype: str) -> Adapter:
    adapter.pipeline.to(device)
    # what was trained is float32; all models of one report are measured in one precision
    cast(adapter.denoiser, getattr(torch, dtype))
    adapter.denoiser.requires_grad_(False).eval()
    return adapter
