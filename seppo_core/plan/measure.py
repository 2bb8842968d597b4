"""Counts a training step, a solver step and the VAE's work on a model whose tensors have no memory."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from seppo_core.config.schema import Config
from seppo_core.io.lazy import uncollected
from seppo_core.methods.method import Scalars
from seppo_core.methods.reference import Reference, make_reference
from seppo_core.methods.step import Batch
from seppo_core.models.adapter import Adapter
from seppo_core.models.latents import Condition, CropInfo
from seppo_core.models.noise_path import NoisePath
from seppo_core.models.recomputing import recompute
from seppo_core.models.sampling import make_scheduler
from seppo_core.models.tuning import trainable_parameters
from seppo_core.models.vae import tile_vae
from seppo_core.plan.build import build_adapter, caption_condition, runnable
from seppo_core.plan.counter import Cost, Counter, bytes_of, checkpointing, cost_of, counting, weights_of
from seppo_core.plan.inputs import recording_inputs
from seppo_core.plan.step_costs import StepCosts
from seppo_core.plan.weights import count_weights, module_of
from seppo_core.training.setup import build_model, weight_dtype


@uncollected()
def measure(config: Config, only_step: bool = False) -> StepCosts:
    """Builds the model of `config` without memory and counts its work; with `only_step` only that of training.

    Raises FileNotFoundError if the architecture of the base is not known without network.
    """
    # a LoRA to start from has the size of the one that is trained, and merging it changes no size; `memory` knows what
    # weights in fewer bits take
    config = replace(config, model=replace(config.model, lora=None, quantize=None, quantize_text=None))
    adapter = build_adapter(config, weight_dtype(config))
    base = bytes_of(weights_of(adapter.denoiser))
    parameters = sum(parameter.numel() for parameter in adapter.denoiser.parameters())
    meter = _Meter(config, adapter)
    weights = count_weights(adapter, meter.reference, base, parameters)
    with meter.fake:
        denoising = previewing = decoding = None
        encoding = encoding_one = Cost(0, 0, 0)
        if not only_step:
            denoising = meter.denoising()
            previewing = meter.previewing(denoising)
            decoding = meter.decoding()
            encoding = encoding_one = meter.encoding(config.data.encode_batch_size)
            if config.data.encode_batch_size > 1:
                encoding_one = meter.encoding(1)
        steps, observe = meter.steps(both=not (only_step and config.loop.gradient_checkpointing))
    step = steps[config.loop.gradient_checkpointing]
    return StepCosts(
        component=adapter.component,
        weights=weights,
        latent_shape=meter.shape,
        item_bytes=meter.item_bytes(),
        caption_bytes=meter.caption_bytes(),
        forward=step.policy // meter.items_per_pass,
        steps={checkpointed: micro_batch.cost for checkpointed, micro_batch in steps.items()},
        step_reference=step.reference,
        reference_peak=step.reference_peak,
        block_inputs=steps[True].inputs,
        observe=observe,
        denoising=denoising,
        calls=meter.calls,
        guided=meter.guided(config.reference_samples.guidance_scale),
        previewing=previewing,
        previews_guided=meter.guided(config.preview.guidance_scale),
        decoding=decoding,
        decoded=meter.decoded,
        encoding=encoding,
        encoding_one=encoding_one,
    )


class _MicroBatch(NamedTuple):
    """One micro-batch as the trainer runs it when the gradients of an earlier one are already there."""

    cost: Cost
    reference: int
    """FLOPs of the reference's passes."""
    policy: int
    """FLOPs of the policy's forward pass that the gradient goes through."""
    reference_peak: int
    """Peak bytes while the reference predicts."""
    inputs: int
    """Bytes of the inputs of all blocks."""


class _Meter:
    """Holds a tuned model on fake tensors and counts what its parts cost."""

    def __init__(self, config: Config, adapter: Adapter):
        self.config, self.adapter, self.vae = config, adapter, adapter.pipeline.vae
        data = config.data
        self.shape = adapter.latent_shape(data.height, data.width, data.frames)
        self.calls = self._calls()
        parts = build_model(config, adapter)
        self.method, self.noise_path, self.policy = parts.method, parts.noise_path, adapter.denoiser
        self.generates = config.generated > 0
        self.reference = make_reference(self.policy) if config.holds_reference else None
        if config.refers_to_base:
            start = {name: torch.zeros(()).expand(p.shape) for name, p in trainable_parameters(self.policy).items()}
            self.reference.load(start)
        self.caption = caption_condition(adapter)
        whole = CropInfo(data.height, data.width, 0, 0, data.height, data.width)
        self.crop = adapter.size_condition([whole])
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        referring = None if self.reference is None else module_of(self.reference)
        runnable(self.fake, self.policy, self.vae, *([] if referring is None else [referring]))
        self.known = weights_of(self.policy, referring)
        rows = [config.preview.at_once] if config.preview.prompts else []
        through_pixels = config.reference_samples.reencode or config.loop.judge is not None
        batches = [config.reference_samples.batch_size] if through_pixels and self.generates else []
        self.decoded = max(rows + batches, default=0)

    @property
    def items_per_pass(self) -> int:
        """Items in the policy's forward pass of one micro-batch: winners and counterparts."""
        return self.config.loop.micro_batch_size * (2 if self.method.spec.contrastive else 1)

    def guided(self, scale: float) -> bool:
        """Whether sampling with this guidance scale takes a second forward pass."""
        return scale > 1 and self.adapter.guidance == "cfg"

    def item_bytes(self) -> int:
        """Bytes of one item in the cache: mean and variance of its latents, and its crop."""
        data = self.config.data
        halves = {"pairs": 2, "prompts": 0}.get(data.supervision, 1)
        latents = 2 * (1 + data.flip) * math.prod(self.shape) * self._dtype.itemsize
        return halves * latents + max(1, halves) * self._stored(self.crop)

    def caption_bytes(self) -> int:
        """Bytes of one encoded caption in the cache."""
        return self._stored(self.caption)

    def steps(self, both: bool) -> tuple[dict[bool, _MicroBatch], int]:
        """One micro-batch without and with gradient checkpointing (`both`), or only with; FLOPs of its observation."""
        observe, observed = self._observe()
        passes: list[_ReferencePass | None] = []
        # checkpointing cannot be switched off again, so it comes last
        return {used: self._step(observed, used, passes) for used in ((False, True) if both else (True,))}, observe

    def denoising(self) -> Cost | None:
        """One solver step of a batch of reference samples."""
        if not self.generates:
            return None
        samples = self.config.reference_samples
        with self.reference.active() as frozen:
            return self._solver_step(frozen, samples.batch_size, samples.guidance_scale)

    def previewing(self, denoising: Cost | None) -> Cost | None:
        """One solver step of a batch of previews."""
        preview, samples = self.config.preview, self.config.reference_samples
        if not preview.prompts:
            return None
        if denoising is not None and self.config.tune.mode == "lora" and not self.config.refers_to_base:
            # policy and reference share their weights, without half-precision copies; counting a large model is slow
            rows = preview.at_once * (1 + self.guided(preview.guidance_scale))
            return denoising.times(rows / (samples.batch_size * (1 + self.guided(samples.guidance_scale))))
        with torch.no_grad():
            return self._solver_step(self.policy, preview.at_once, preview.guidance_scale)

    def decoding(self) -> Cost | None:
        """The VAE decoding the largest batch that is decoded at once."""
        if not self.decoded:
            return None
        return cost_of(lambda: self.adapter.decode(torch.randn(self.decoded, *self.shape)), weights_of(self.vae))

    def encoding(self, count: int) -> Cost:
        """The VAE encoding `count` items."""
        d = self.config.data
        if d.vae_tiling:
            tile_vae(self.vae)
        size = (3, d.frames, d.height, d.width) if d.frames > 1 else (3, d.height, d.width)
        return cost_of(lambda: self.adapter.encode(torch.randn(count, *size)), weights_of(self.vae))

    @property
    def _dtype(self) -> torch.dtype:
        return getattr(torch, self.config.data.cache_dtype)

    def _stored(self, condition: Condition) -> int:
        """Bytes of one item's condition in the cache, which stores floating-point numbers in data.cache_dtype."""
        return sum(
            value[0].numel() * (self._dtype if value.is_floating_point() else value.dtype).itemsize
            for value in condition.values()
        )

    def _calls(self) -> int:
        samples = self.config.reference_samples
        if not self.config.generated:
            return 0
        scheduler = deepcopy(make_scheduler(samples.scheduler, self.adapter.scheduler))
        # some solvers, PNDM among them, add warm-up steps
        steps = len(self.adapter.timesteps(scheduler, samples.steps, self.shape, torch.device("cpu")))
        return steps * (1 + self.guided(samples.guidance_scale))

    def _condition(self, count: int) -> Condition:
        """Conditions of `count` items as the cache gives them: floating-point numbers are float32."""
        return {
            name: torch.ones(count, *value.shape[1:], dtype=torch.float32 if value.is_floating_point() else value.dtype)
            for name, value in {**self.caption, **self.crop}.items()
        }

    def _batch(self) -> Batch:
        """One micro-batch of the kind that the method learns from."""
        count, spec, draws = self.config.loop.micro_batch_size, self.method.spec, self.method.anchor_draws
        return Batch(
            x0=torch.randn(count, *self.shape),
            condition=self._condition(count),
            t=_timesteps(self.noise_path, count),
            noise=torch.randn(count, *self.shape),
            noise_path=self.noise_path,
            counterpart=torch.randn(count, *self.shape) if spec.contrastive else None,
            counterpart_noise=torch.randn(count, *self.shape) if spec.contrastive else None,
            desirable=torch.ones(count, dtype=torch.bool) if spec.supervision == "labels" else None,
            reward=torch.ones(count) if spec.supervision == "prompts" else None,
            anchor_t=torch.stack([_timesteps(self.noise_path, count)] * draws) if draws else None,
            anchor_noise=torch.randn(draws, count, *self.shape) if draws else None,
        )

    def _observe(self) -> tuple[int, Scalars]:
        """FLOPs of the method's observation of one micro-batch, and the observed scalars."""
        if not self.method.observes:
            return 0, {}
        with counting(self.known, self.config.loop.mixed_precision) as counter:
            observed = self.method.observe(self.adapter, self.policy, self.reference, self._batch())
            return counter.flops, observed

    def _step(self, observed: Scalars, checkpointed: bool, passes: list["_ReferencePass | None"]) -> _MicroBatch:
        if checkpointed:
            recompute(self.policy, self.config.loop.checkpointing_share, checkpointing)
        for parameter in trainable_parameters(self.policy).values():
            parameter.grad = torch.zeros_like(parameter)
        known = weights_of(self.policy, None if self.reference is None else module_of(self.reference))
        with counting(known, self.config.loop.mixed_precision) as counter:
            watched = None if self.reference is None else _WatchedReference(self.reference, counter, passes)
            batch = self._batch()
            with recording_inputs(self.adapter) as inputs:
                loss, metrics = self.method.loss(self.adapter, self.policy, watched, batch, observed)
            forward = counter.flops - (0 if watched is None else watched.flops)
            loss.backward()
            del loss, metrics, batch
            cost = counter.cost
        # the anchor's draws are passes over the winners alone, as many of the policy as of the reference
        anchors = self.method.anchor_draws / 2 * (not self.method.observes) if self.method.spec.contrastive else 0
        return _MicroBatch(
            cost=cost,
            reference=0 if watched is None else watched.flops,
            policy=round(forward / (1 + anchors)),
            reference_peak=0 if watched is None else watched.peak,
            inputs=sum(inputs.values()),
        )

    def _solver_step(self, denoiser: nn.Module, samples: int, guidance_scale: float) -> Cost:
        """One solver step of `samples` samples at once."""
        count = samples * (1 + self.guided(guidance_scale))

        def step() -> Tensor:
            condition = self.adapter.with_guidance(self._condition(count), guidance_scale)
            t = _timesteps(self.adapter.path, count)
            return self.adapter.predict(denoiser, torch.randn(count, *self.shape), t, condition)

        return cost_of(step, self.known, self.config.loop.mixed_precision)


def _timesteps(noise_path: NoisePath, count: int) -> Tensor:
    return noise_path.timesteps(torch.rand(count, dtype=torch.float64))


class _ReferencePass(NamedTuple):
    """What a pass of the reference cost. It has no gradient, so that it is the same with and without checkpointing."""

    flops: int
    above: int
    """Peak bytes, without those that were held before it."""
    shape: torch.Size
    dtype: torch.dtype
    """Of the prediction, the only tensor that it leaves."""


class _WatchedReference(Reference):
    """A reference whose FLOPs and peak bytes are counted apart.

    `passes` takes what each of its passes cost (None if it left more than its prediction); passes that are in it
    already are not run again.
    """

    def __init__(self, reference: Reference, counter: Counter, passes: list[_ReferencePass | None]):
        super().__init__(reference.denoiser)
        self.reference, self.counter, self.flops, self.peak = reference, counter, 0, 0
        self.passes, self.earlier = passes, iter(tuple(passes))

    def _load(self, state: dict[str, Tensor]) -> None:
        self.reference.load(state)

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        counter = self.counter
        flops, peak = counter.flops, counter.peak
        counter.peak = counter.live
        with self.reference.active() as module, self._watched(module):
            yield module
        self.flops += counter.flops - flops
        self.peak = max(self.peak, counter.peak)
        counter.peak = max(peak, counter.peak)

    @contextmanager
    def _watched(self, module: nn.Module) -> Iterator[None]:
        counter, run = self.counter, module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            earlier = next(self.earlier, None)
            if earlier is None:
                return recorded(*args, **kwargs)
            counter.flops += earlier.flops
            counter.peak = max(counter.peak, counter.live + earlier.above)
            return (torch.empty(earlier.shape, dtype=earlier.dtype),)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            flops, live, peak = counter.flops, counter.live, counter.peak
            counter.peak = live
            result = run(*args, **kwargs)
            sample = result[0]
            whole = counter.live - live == sample.nbytes
            cost = _ReferencePass(counter.flops - flops, counter.peak - live, sample.shape, sample.dtype)
            self.passes.append(cost if whole and sample.is_contiguous() else None)
            counter.peak = max(peak, counter.peak)
            return result

        module.forward = forward
        try:
            yield
        finally:
            del module.forward
