"""One step of training, one of sampling and the VAE's work, counted on a model without memory."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from seppo_core.config.schema import Config
from seppo_core.methods.method import Scalars
from seppo_core.methods.reference import Reference, make_reference
from seppo_core.methods.step import Batch
from seppo_core.models.adapter import Adapter, Condition, CropInfo
from seppo_core.models.noise_path import NoisePath
from seppo_core.models.sampling import make_scheduler
from seppo_core.models.tuning import trainable_parameters
from seppo_core.models.vae import tile_vae
from seppo_core.plan.build import build_adapter, caption_condition, runnable
from seppo_core.plan.counter import Cost, Counter, bytes_of, checkpointing, cost_of, counting, weights_of
from seppo_core.plan.weights import Weights, count_weights, module_of
from seppo_core.training.setup import ModelParts, build_model, weight_dtype

Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Of a condition's tensors by name, without the batch."""
Draw = Callable[[int], Condition]
"""The condition of so many items."""


@dataclass(frozen=True)
class Work:
    """What the parts of a run cost on one GPU."""

    component: str
    """The denoiser's name among the pipeline's components."""
    weights: Weights
    latent_shape: tuple[int, ...]
    item_bytes: int
    """Of what `prepare` stores of one item, its caption not counted, in data.cache_dtype."""
    caption_bytes: int
    forward: int
    """FLOPs of one forward pass of the policy over one item."""
    steps: dict[bool, Cost]
    """Of one micro-batch, every pass of policy and reference and the policy's backward, without and with gradient
    checkpointing."""
    step_reference: int
    """FLOPs of the reference's passes in it."""
    reference_peak: int
    """Bytes that a micro-batch has made at most while the reference predicts."""
    observe: int
    """FLOPs of one micro-batch of what a method looks at before its losses."""
    denoising: Cost | None
    """Of one step of sampling a batch of reference samples; None where the method draws none."""
    calls: int
    """Forward passes of the denoiser that a reference sample takes, guidance's second one counted."""
    guided: bool
    """Whether sampling takes a second forward pass for classifier-free guidance."""
    previewing: Cost | None
    """Of one step of sampling a row of previews; None where the config names no prompts."""
    previews_guided: bool
    """Whether those take a second forward pass."""
    decoding: Cost | None
    """Of the VAE for a row of previews, or for a batch of samples that are encoded again; None where neither is."""
    decoded: int
    """Items in that."""
    encoding: Cost
    """Of the VAE for a batch of `prepare`."""
    encoding_one: Cost
    """The same for one item: a VAE that takes frames in parts needs as much for it as for a batch."""


def measure(config: Config, only_step: bool = False) -> Work:
    """Builds the model of `config` without memory and counts its work; `only_step` leaves out all but training."""
    # a LoRA to start from is as large as the one that is trained, and merging it changes no size
    config = replace(config, model=replace(config.model, lora=None))
    adapter = build_adapter(config, weight_dtype(config))
    data, loop = config.data, config.loop
    shape = adapter.latent_shape(data.height, data.width, data.frames)
    calls = _calls(config, adapter, shape)
    base = bytes_of(weights_of(adapter.denoiser))
    parameters = sum(parameter.numel() for parameter in adapter.denoiser.parameters())
    parts = build_model(config, adapter)
    method = parts.method
    reference = make_reference(adapter.denoiser) if method.spec.uses_reference else None
    one = {name: (tuple(value.shape[1:]), value.dtype) for name, value in caption_condition(adapter).items()}
    told = adapter.size_condition(_framing(config))
    weights = count_weights(adapter, reference, base, parameters)
    item_bytes, caption_bytes = _stored(config, shape, one, told)
    one |= {name: (tuple(value.shape[1:]), value.dtype) for name, value in told.items()}
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    runnable(fake, adapter.denoiser, adapter.pipeline.vae, *([] if reference is None else [module_of(reference)]))
    with fake:
        known = weights_of(adapter.denoiser, None if reference is None else module_of(reference))
        draw = lambda count: _condition(one, count)  # noqa: E731
        denoising = previewing = decoding = None
        encoding = encoding_one = Cost(0, 0, 0)
        if not only_step:
            if method.spec.counterpart == "generated":
                s = config.reference_samples
                with reference.active() as frozen:
                    denoising = _denoising(config, adapter, frozen, shape, draw, known, s.batch_size, s.guidance_scale)
            p = config.preview
            if p.prompts and denoising is not None and config.tune.mode == "lora":
                # the same weights, and no copies of them in half precision; a large model takes long to count
                rows = p.per_prompt * (1 + _guided(p.guidance_scale, adapter))
                previewing = denoising.times(rows / (s.batch_size * (1 + _guided(s.guidance_scale, adapter))))
            elif p.prompts:
                with torch.no_grad():
                    previewing = _denoising(
                        config, adapter, adapter.denoiser, shape, draw, known, p.per_prompt, p.guidance_scale
                    )
            decoding = _decoding(config, adapter, shape)
            encoding = encoding_one = _encoding(config, adapter, config.data.encode_batch_size)
            if config.data.encode_batch_size > 1:
                encoding_one = _encoding(config, adapter, 1)
        observe, observed = _observe(config, parts, reference, shape, draw, known)
        steps = {}
        # checkpointing cannot be taken back
        for checkpointed in (True,) if only_step and loop.gradient_checkpointing else (False, True):
            steps[checkpointed], of_reference, of_policy, reference_peak = _step(
                config, parts, reference, shape, draw, observed, checkpointed
            )
        forward = of_policy // (loop.micro_batch_size * (2 if method.spec.contrastive else 1))
    return Work(
        component=adapter.component,
        weights=weights,
        latent_shape=shape,
        item_bytes=item_bytes,
        caption_bytes=caption_bytes,
        forward=forward,
        steps=steps,
        step_reference=of_reference,
        reference_peak=reference_peak,
        observe=observe,
        denoising=denoising,
        calls=calls,
        guided=_guided(config.reference_samples.guidance_scale, adapter),
        previewing=previewing,
        previews_guided=_guided(config.preview.guidance_scale, adapter),
        decoding=decoding,
        decoded=max(_decoded(config), default=0),
        encoding=encoding,
        encoding_one=encoding_one,
    )


def _stored(config: Config, shape: tuple[int, ...], text: Shapes, framing: Condition) -> tuple[int, int]:
    """Bytes of an item and of a caption in the cache."""
    size = getattr(torch, config.data.cache_dtype).itemsize
    halves = 2 if config.data.supervision == "pairs" else 1
    latents = 2 * (1 + config.data.flip) * math.prod(shape) * size
    of_framing = sum(
        value[0].numel() * (size if value.is_floating_point() else value.itemsize) for value in framing.values()
    )
    caption = sum(math.prod(of) * (size if dtype.is_floating_point else dtype.itemsize) for of, dtype in text.values())
    return halves * (latents + of_framing), caption


def _condition(shapes: Shapes, count: int) -> Condition:
    """Of `count` items, as the cache gives it: what is not a whole number is float32."""
    return {
        name: torch.ones(count, *shape, dtype=torch.float32 if dtype.is_floating_point else dtype)
        for name, (shape, dtype) in shapes.items()
    }


def _step(
    config: Config,
    parts: ModelParts,
    reference: Reference | None,
    shape: tuple[int, ...],
    draw: Draw,
    observed: Scalars,
    checkpointed: bool,
) -> tuple[Cost, int, int, int]:
    """One micro-batch as the trainer runs it when gradients are there from the one before; FLOPs of its reference, and
    of the policy's forward pass that the gradient goes through; bytes while the reference predicts."""
    adapter, method, policy = parts.adapter, parts.method, parts.adapter.denoiser
    if checkpointed:
        policy.enable_gradient_checkpointing(checkpointing)
    for parameter in trainable_parameters(policy).values():
        parameter.grad = torch.zeros_like(parameter)
    known = weights_of(policy, None if reference is None else module_of(reference))
    with counting(known, config.loop.mixed_precision) as counter:
        watched = None if reference is None else _Watched(reference, counter)
        batch = _batch(config, parts, shape, draw)
        loss, metrics = method.loss(adapter, policy, watched, batch, observed)
        forward = counter.flops - (0 if watched is None else watched.flops)
        loss.backward()
        del loss, metrics, batch
        cost = counter.cost
    of_reference, reference_peak = (0, 0) if watched is None else (watched.flops, watched.peak)
    # the anchor's draws are passes over the winners alone, with as many of the policy as of the reference
    passes = 1 + method.anchor_draws / 2 * (not method.observes) if method.spec.contrastive else 1
    return cost, of_reference, round(forward / passes), reference_peak


def _observe(
    config: Config,
    parts: ModelParts,
    reference: Reference | None,
    shape: tuple[int, ...],
    draw: Draw,
    known: list[Tensor],
) -> tuple[int, Scalars]:
    """FLOPs of what the method observes in a micro-batch, and the scalars themselves."""
    adapter, method = parts.adapter, parts.method
    if not method.observes:
        return 0, {}
    with counting(known, config.loop.mixed_precision) as counter:
        observed = method.observe(adapter, adapter.denoiser, reference, _batch(config, parts, shape, draw))
        return counter.flops, observed


def _batch(config: Config, parts: ModelParts, shape: tuple[int, ...], draw: Draw) -> Batch:
    """One micro-batch of the method's kind."""
    count, spec, more = config.loop.micro_batch_size, parts.method.spec, parts.method.anchor_draws
    timesteps = lambda: _timesteps(parts.noise_path, count)  # noqa: E731
    return Batch(
        x0=torch.randn(count, *shape),
        condition=draw(count),
        t=timesteps(),
        noise=torch.randn(count, *shape),
        noise_path=parts.noise_path,
        counterpart=torch.randn(count, *shape) if spec.counterpart != "none" else None,
        counterpart_noise=torch.randn(count, *shape) if spec.counterpart != "none" else None,
        desirable=torch.ones(count, dtype=torch.bool) if spec.supervision == "labels" else None,
        anchor_t=torch.stack([timesteps()] * more) if more else None,
        anchor_noise=torch.randn(more, count, *shape) if more else None,
    )


def _denoising(
    config: Config,
    adapter: Adapter,
    denoiser: nn.Module,
    shape: tuple[int, ...],
    draw: Draw,
    known: list[Tensor],
    samples: int,
    guidance_scale: float,
) -> Cost:
    """One step of drawing so many samples at once."""
    count = samples * (1 + _guided(guidance_scale, adapter))

    def step() -> Tensor:
        condition = adapter.with_guidance(draw(count), guidance_scale)
        return adapter.predict(denoiser, torch.randn(count, *shape), _timesteps(adapter.path, count), condition)

    return cost_of(step, known, config.loop.mixed_precision)


def _calls(config: Config, adapter: Adapter, shape: tuple[int, ...]) -> int:
    """Forward passes over one item that drawing a reference sample takes."""
    s = config.reference_samples
    if config.method.spec.counterpart != "generated":
        return 0
    scheduler = deepcopy(make_scheduler(s.scheduler, adapter.scheduler))
    # some solvers, PNDM among them, warm up with steps of their own
    steps = len(adapter.timesteps(scheduler, s.steps, shape, torch.device("cpu")))
    return steps * (1 + _guided(s.guidance_scale, adapter))


def _guided(scale: float, adapter: Adapter) -> bool:
    """Whether drawing takes a second forward pass."""
    return scale > 1 and adapter.guidance == "cfg"


def _decoding(config: Config, adapter: Adapter, shape: tuple[int, ...]) -> Cost | None:
    """Of the larger of a row of previews and a batch of samples that go through pixels."""
    counts = _decoded(config)
    if not counts:
        return None
    known = weights_of(adapter.pipeline.vae)
    return cost_of(lambda: adapter.decode(torch.randn(max(counts), *shape)), known)


def _decoded(config: Config) -> list[int]:
    """How many items the VAE decodes at once: for previews, and for samples that go through pixels."""
    again = config.reference_samples.reencode and config.method.spec.counterpart == "generated"
    return [config.preview.per_prompt] * bool(config.preview.prompts) + [config.reference_samples.batch_size] * again


def _encoding(config: Config, adapter: Adapter, count: int) -> Cost:
    d = config.data
    if d.vae_tiling:
        tile_vae(adapter.pipeline.vae)
    size = (3, d.frames, d.height, d.width) if d.frames > 1 else (3, d.height, d.width)
    return cost_of(lambda: adapter.encode(torch.randn(count, *size)), weights_of(adapter.pipeline.vae))


def _timesteps(noise_path: NoisePath, count: int) -> Tensor:
    return noise_path.timesteps(torch.rand(count, dtype=torch.float64))


def _framing(config: Config) -> list[CropInfo]:
    height, width = config.data.height, config.data.width
    return [CropInfo(height, width, 0, 0, height, width)]


class _Watched(Reference):
    """A reference whose FLOPs and peak are counted by themselves."""

    def __init__(self, reference: Reference, counter: Counter):
        super().__init__(reference.denoiser)
        self.reference, self.counter, self.flops, self.peak = reference, counter, 0, 0

    def _load(self, state: dict[str, Tensor]) -> None:
        self.reference.load(state)

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        counter = self.counter
        flops, peak = counter.flops, counter.peak
        counter.peak = counter.live
        with self.reference.active() as module:
            yield module
        self.flops += counter.flops - flops
        self.peak = max(self.peak, counter.peak)
        counter.peak = max(peak, counter.peak)
