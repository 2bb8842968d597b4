"""Seconds that a run takes to bring frozen weights into the form that is computed with."""

from seppo_core.config.gpus import Gpu
from seppo_core.config.options import PlanRequest
from seppo_core.config.schema import Config
from seppo_core.plan.memory import held_blocks
from seppo_core.plan.result import Counts
from seppo_core.plan.step_costs import StepCosts

IN_FULL = 2
"""Bytes that a number takes while it is computed with."""


def moving(config: Config, costs: StepCosts, gpu: Gpu, counts: Counts, request: PlanRequest) -> float:
    """Seconds of all GPUs together.

    Weights in fewer bits are written out in half precision for every pass. Blocks that wait on the CPU are fetched for
    every pass, the next while one computes, so that only the excess counts. Inputs of recomputed blocks go to the CPU
    and come back, while nothing computes.
    """
    model, loop = config.model, config.loop
    micro_batches = counts.trained_samples // loop.micro_batch_size
    waited = 2 * costs.block_inputs / (1e9 * gpu.link) * micro_batches if loop.offload_activations else 0.0
    if model.quantize is None and not model.offload:
        return waited
    # the policy's forward pass, the reference's, and the recomputed one
    referred = config.method.spec.uses_reference * counts.drawn / counts.trained_samples
    passes = 1 + referred + loop.gradient_checkpointing * loop.checkpointing_share
    solving = 0
    if costs.denoising is not None:
        solving = counts.generated * costs.calls // (1 + costs.guided) // config.reference_samples.batch_size
    # every one of a group brings all weights into that form, for its part of the tokens
    each_of = loop.context_parallel
    if model.quantize is not None:
        held = costs.weights.matrices[costs.component].numbers
        each = each_of * held * ((0.5 if model.quantize == "nf4" else 1) + IN_FULL) / (1e9 * gpu.bandwidth)
        # the backward pass needs them again
        waited += each * (micro_batches * (passes + 1) + solving)
    if not model.offload:
        return waited
    fetched = each_of * held_blocks(config, costs) / (1e9 * gpu.link)
    speed = 1e12 * request.utilisation * (gpu.half if config.in_half_precision else gpu.single)
    step = costs.steps[loop.gradient_checkpointing].flops / speed
    sampled = 0.0 if costs.denoising is None else max(0.0, fetched - costs.denoising.flops / speed)
    return waited + max(0.0, passes * fetched - step) * micro_batches + sampled * solving
