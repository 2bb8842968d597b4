"""Memory of one GPU, by phase of a run and by part."""

from seppo_core.config.gpus import GIB
from seppo_core.config.model import Quantized
from seppo_core.config.schema import Config
from seppo_core.plan.exchange import held as exchanged
from seppo_core.plan.exchange import items_at_once
from seppo_core.plan.step_costs import Block, Cost, Matrices, StepCosts

CONTEXT = GIB
"""Assumed for CUDA's context and the workspaces of its libraries."""

EXCHANGED = "queries, keys, values between GPUs"
Phases = dict[str, dict[str, int]]
"""Bytes by phase and part."""


def memory(config: Config, costs: StepCosts, gpus: int, of_gpu: int | None = None) -> Phases:
    """Bytes that each phase of `prepare` and `train` holds at its peak, on each of `gpus`.

    With `loop.sharded` each holds its slice of policy, reference, gradients and moments, and for a moment whole blocks.
    With `loop.context_parallel` it holds a part of the activations of an item, and what attention sends and receives.
    With `loop.offload_reference` the reference is there only while it predicts. `prepare` is that of the batch that it
    would come down to on a GPU with `of_gpu` bytes; without, of the batch that the config names.
    """
    loop, weights = config.loop, costs.weights
    trained, dtypes = weights.trained_bytes, weights.dtypes
    sharded = loop.sharded and gpus > 1
    slices = gpus if sharded else 1
    reference = {"reference's own weights": -(-weights.reference // slices)}
    held = {
        f"policy, {config.model.quantize or dtypes[costs.component]}": -(-held_base(config, costs) // slices),
        "a matrix in full": transient(config, costs),
        "LoRA, float32": -(-weights.lora // slices),
        f"states of {config.optimizer.name}": -(-moments(config, costs) // slices),
        "EMA": -(-trained // slices) if config.optimizer.ema_decay is not None else 0,
        f"VAE, {dtypes['vae']}": weights.vae if costs.decoding is not None else 0,
        "CUDA context, assumed": CONTEXT,
    }
    if not loop.offload_reference:
        held |= reference
    gradients = {
        "gradients": -(-trained // slices),
        "gradient buckets between GPUs": trained if gpus > 1 and not sharded else 0,
    }
    predicting = {"blocks gathered from shards": _gathered(weights.block, weights.outside) if sharded else 0}
    learning = {
        "blocks gathered from shards": _gathered(weights.block, weights.outside, learning=True) if sharded else 0
    }
    sending = {EXCHANGED: exchanged(config, costs, items_at_once(config), backward=True)}
    # torch's AdamW computes the steps of all weights at once if it is not fused, Adafactor one after the other
    in_place = config.optimizer.name == "adafactor" or config.optimizer.fused
    phases = {
        "prepare": preparing(config, costs, encode_batch(config, costs, of_gpu)),
        "training": held | gradients | learning | {"activations": activations(config, costs)} | sending,
        "optimizer step": held | gradients | {"steps of all weights": 0 if in_place else -(-trained // slices)},
    }
    if loop.offload_reference:
        phases["reference's errors"] = (
            held | reference | gradients | {"activations": part(config, costs.reference_peak)} | sending
        )
    samples, previews = config.reference_samples.batch_size, config.preview.at_once
    drawn: dict[str, tuple[Cost | None, int]] = {
        "generation": (costs.denoising, samples * (1 + costs.guided)),
        "previews": (costs.previewing, previews * (1 + costs.previews_guided)),
    }
    for name, (cost, items) in drawn.items():
        if cost is not None:
            with_it = reference if name == "generation" else {}
            computing = {"activations": part(config, cost.peak), EXCHANGED: exchanged(config, costs, items)}
            phases[name] = held | with_it | predicting | computing
    if costs.decoding is not None:
        # samples that go through pixels are decoded while the reference is still there
        pixels = config.reference_samples.reencode or config.loop.judge is not None
        again = pixels and costs.denoising is not None
        phases["decoding"] = held | (reference if again else {}) | {"activations": costs.decoding.peak}
    return {name: {part: size for part, size in parts.items() if size} for name, parts in phases.items()}


def activations(config: Config, costs: StepCosts) -> int:
    """Bytes of a micro-batch's activations on the GPU at their peak."""
    peak = costs.steps[config.loop.gradient_checkpointing].peak
    if config.loop.offload_activations:
        peak = max(peak - costs.block_inputs, costs.reference_peak)
    return part(config, peak)


def part(config: Config, size: int) -> int:
    """What a process holds of an item's activations of `size` bytes (loop.context_parallel)."""
    return -(-size // config.loop.context_parallel)


def preparing(config: Config, costs: StepCosts, batch: int) -> dict[str, int]:
    """Bytes of `prepare` by part, with so many items encoded at once: between those of one and of the config's batch,
    both of which were counted."""
    weights, most = costs.weights, config.data.encode_batch_size
    one, all_of_them = costs.encoding_one.peak, costs.encoding.peak
    return {
        f"VAE, {weights.dtypes['vae']}": weights.vae,
        **{
            f"{name}, {kind or weights.dtypes[name]}": in_fewer_bits(size, weights.matrices.get(name), kind)
            for name, size in weights.texts.items()
            for kind in [config.model.quantize_text if name in weights.matrices else None]
        },
        "activations": one + round((all_of_them - one) * (batch - 1) / max(1, most - 1)),
        "CUDA context, assumed": CONTEXT,
    }


def encode_batch(config: Config, costs: StepCosts, of_gpu: int | None) -> int:
    """The batch that `prepare` comes down to on a GPU of so many bytes: it halves by itself what does not fit."""
    size = config.data.encode_batch_size
    if of_gpu is not None:
        while size > 1 and sum(preparing(config, costs, size).values()) > of_gpu:
            size //= 2
    return size


def in_fewer_bits(size: int, matrices: Matrices | None, kind: Quantized | None) -> int:
    """Bytes of a model of `size` bytes, its matrices and convolutions in the form `kind`: nf4 has a scale of 8 bits
    for every 64 numbers, and a float32 one for every 256 of these; 8 bits have a float32 one for every row."""
    if kind is None or matrices is None:
        return size
    numbers, rows = matrices.numbers, matrices.rows
    held = numbers // 2 + numbers // 64 + 4 * (numbers // 16384) if kind == "nf4" else numbers + 4 * rows
    return size - matrices.weights + held


def held_base(config: Config, costs: StepCosts) -> int:
    """Bytes of the policy's base on the GPU: with `model.offload` those of two blocks, and what stands outside."""
    weights = costs.weights
    if not config.model.offload:
        return in_fewer_bits(weights.base, weights.matrices.get(costs.component), config.model.quantize)
    # blocks are alike in what part of them are matrices
    share = held_blocks(config, costs) / (weights.base - weights.outside.weights)
    return weights.outside.weights + round(2 * share * weights.block.weights)


def held_blocks(config: Config, costs: StepCosts) -> int:
    """Bytes of the frozen blocks, in the form that they are kept in."""
    weights = costs.weights
    matrices = weights.matrices.get(costs.component)
    return in_fewer_bits(weights.base - weights.outside.weights, matrices, config.model.quantize)


def transient(config: Config, costs: StepCosts) -> int:
    """Bytes of the largest matrix or convolution while it is computed with."""
    found = costs.weights.matrices.get(costs.component)
    each = 2 if config.in_half_precision else 4
    return 0 if found is None or config.model.quantize is None else each * found.largest


def moments(config: Config, costs: StepCosts) -> int:
    """Bytes of AdamW's two moments: 4 each a weight, or 1 with a scale for every 256 of them; of Adafactor's one, which
    is kept for rows and columns alone."""
    if config.optimizer.name == "adamw8bit":
        return round(2 * costs.weights.trained * (1 + 4 / 256))
    if config.optimizer.name == "adafactor":
        return 4 * costs.weights.factored
    return 2 * 4 * costs.weights.trained


def peak(phases: Phases, prepare: bool = True) -> int:
    """The most that any phase holds."""
    return max(sum(parts.values()) for name, parts in phases.items() if prepare or name != "prepare")


def _gathered(block: Block, outside: Block, learning: bool = False) -> int:
    """Bytes that are whole at once: the block that computes, and the next one, which is fetched meanwhile. Going back,
    as many gradients: those of the one that computes, and those that are on their way to the others."""
    size = outside.weights + 2 * block.weights
    return size + outside.trained + 2 * block.trained if learning else size
