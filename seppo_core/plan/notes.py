"""Remarks that a plan adds to its numbers: warnings, refusals to expect, and the assumptions behind the figures."""

from collections.abc import Sequence
from pathlib import Path

from seppo_core.config.cpu import SMALL, slow_on_cpu
from seppo_core.config.geometry import context_problem
from seppo_core.config.gpus import GIB, Gpu
from seppo_core.config.options import PlanRequest
from seppo_core.config.schema import Config
from seppo_core.plan.advice import of_sizes, often, uses
from seppo_core.plan.architecture import base_architecture
from seppo_core.plan.exchange import sent
from seppo_core.plan.result import Plan, host_words, span
from seppo_core.plan.step_costs import StepCosts
from seppo_core.run.status import read_status

MONTH = 30 * 24
"""Hours; a longer run is called unrealistic."""


def expected_refusals(config: Config, request: PlanRequest, costs: StepCosts) -> list[str]:
    """Errors with which `train` would refuse this number of GPUs at its start."""
    loop, context = config.loop, config.loop.context_parallel
    groups = request.gpus // context
    step = groups * loop.micro_batch_size
    notes = []
    if request.gpus % context:
        notes.append(
            f"train will refuse this: loop.context_parallel={context} splits every item over {context} GPUs, and there "
            f"are {request.gpus}; use --gpus {-(-request.gpus // context) * context}"
        )
    elif loop.batch_size % step:
        of = "GPUs" if context == 1 else f"groups of {context} GPUs"
        notes.append(
            f"train will refuse this: loop.batch_size={loop.batch_size} is not a multiple of {groups} {of} x "
            f"loop.micro_batch_size={loop.micro_batch_size}; use e.g. {-(-loop.batch_size // step) * step}"
        )
    if problem := uneven(config, costs, context):
        notes.append(f"train will refuse this: {problem}")
    if loop.sharded and request.gpus == 1:
        notes.append("train will refuse this: loop.sharded=true splits one model between GPUs; use --gpus 2 or more")
    return notes


def uneven(config: Config, costs: StepCosts, degree: int) -> str | None:
    """Why items of `config` cannot be split over `degree` GPUs; None if they can."""
    if degree == 1:
        return None
    # every family that can be split has captions of a set length
    text = vars(config.model)["text_tokens"]
    return context_problem(config.model.spec.context, degree, base_architecture(config).parts, costs.latent_shape, text)


def remarks(
    config: Config, request: PlanRequest, plan: Plan, gpu: Gpu, costs: StepCosts, sizes: Sequence[tuple[int, int]]
) -> list[str]:
    """Warnings about memory, time, precision and data, and how often each winner is used; `sizes` are height and width
    of some of the items."""
    notes = []
    if plan.encode_batch_size < config.data.encode_batch_size:
        notes.append(
            f"data.encode_batch_size={config.data.encode_batch_size} does not fit {gpu.title}; prepare reduces it to "
            f"{plan.encode_batch_size} automatically, and its memory above is for that batch"
        )
    if not plan.fits_host:
        notes.append(
            f"the machine is too small: the run holds {host_words(plan)}; keep less there (model.quantize: nf4 under "
            "model.offload, loop.offload_activations: false), or take fewer processes on one machine"
        )
    if config.loop.offload_reference:
        notes.append(
            f"loop.offload_reference copies {costs.weights.reference / GIB:.1f} GiB to the GPU for every micro-batch; "
            "the hours do not include these copies"
        )
    if config.loop.compile is not None:
        notes.append(
            f"loop.compile={config.loop.compile} changes neither the memory nor the hours here; compiled blocks take "
            "less of both, and the first passes of every shape some minutes"
        )
    total = plan.hours.total
    if total > MONTH:
        wanted = -(-total * request.gpus // 168)
        notes.append(
            f"this run is unrealistic: it takes {span(total)} on {request.gpus} x {gpu.title}; "
            f"finishing within a week takes {wanted:,.0f} GPUs. "
            "Reduce the sample size, the sampling steps, the updates or the batch size"
        )
    if not gpu.bfloat16 and (config.loop.mixed_precision == "bf16" or config.model.dtype == "bfloat16"):
        notes.append(f"{gpu.title} has no bfloat16; use float16 (loop.mixed_precision: fp16, model.dtype: float16)")
    small = plan.parameters.denoiser < SMALL
    if small:
        slow = slow_on_cpu(config)
        notes.append(
            "the denoiser is small enough for a CPU, whose hours cannot be told before it has done the first updates: "
            f"`status` then says when it ends{f'. {slow}' if slow else ''}"
        )
    if not small and not config.in_half_precision:
        notes.append("the run computes in float32; loop.mixed_precision: bf16 is several times as fast on this GPU")
    if plan.items is not None:
        mean = uses(config, plan.items)
        used = f"every winner is used {mean:,.1f} times on average"
        # an iteration that uses a sample again uses its winner again
        times = plan.counts.uses
        few = f"{mean / times:.0%} of the winners are used" + (f", each {times} times" if times > 1 else "")
        notes.append(often(config, plan.items) or (used if mean >= times else few))
    notes += [*_kept(config, plan), *of_sizes(config, sizes), *_measured(config)]
    if config.model.lora is not None:
        notes.append(f"model.lora={config.model.lora} is not read; the plan assumes a LoRA of rank tune.rank")
    return notes


def _kept(config: Config, plan: Plan) -> list[str]:
    """How often what is drawn once is met, or why keeping it saves nothing."""
    if (times := plan.counts.uses) > 1:
        name = f"reference_samples.uses={times}"
        return [f"{name}: an own sample is met {times} times in its iteration; docs/memory.md says what that may cost"]
    draws, samples = config.loop.reference_draws, config.reference_samples.repeat_after
    name = f"loop.reference_draws={draws}" if samples is None else f"reference_samples.repeat_after={samples}"
    new = plan.counts.drawn if samples is None else plan.counts.generated
    if config.sample_epochs is None:
        return []
    if new < plan.counts.trained_samples:
        met = plan.counts.trained_samples / new
        return [f"{name}: what is kept is met {met:.1f} times on average; docs/memory.md says what that may cost"]
    why = "is not known to save anything; give --items" if plan.items is None else "saves nothing: no draw comes again"
    return [f"{name} {why}"]


def _measured(config: Config) -> list[str]:
    """What the run that is there already has taken, on the machine that it ran on."""
    try:
        found = read_status(Path(config.run))
    except (OSError, ValueError):
        return []
    if found.seconds_per_update is None:
        return []
    all_of_them = span(found.total * found.seconds_per_update / 3600)
    return [
        f"measured in {config.run}, on the machine that it ran on: {found.seconds_per_update:.2g} s an update, "
        f"{all_of_them} for its {found.total:,} updates, without samples and previews"
    ]


def assumptions(config: Config, request: PlanRequest, gpu: Gpu, costs: StepCosts) -> list[str]:
    """Assumptions behind the hours, the activations and the cache size."""
    rate, precision = (gpu.half, "half") if config.in_half_precision else (gpu.single, "single")
    judge = (
        []
        if config.loop.judge is None
        else [
            f"loop.judge={config.loop.judge} needs memory and time of its own, which are not included: it scores "
            f"{config.loop.candidates(config.method.spec):,} samples an iteration on the first process, and others wait"
        ]
    )
    return [
        f"{request.utilisation:.0%} of the {rate:g} TFLOPS of {gpu.title} in {precision} precision (--utilisation); "
        "time for reading data, communication between GPUs and text encoding is not included",
        "activations are counted op by op with fused attention (SDPA, xformers), plus 1 GiB for CUDA's context and "
        "workspaces; fragmentation, which adds 5 to 10 %, is not included",
        *(
            []
            if config.loop.context_parallel == 1
            else [
                f"each of {config.loop.context_parallel} GPUs holds an equal part of an item's activations, and what "
                "attention sends to the others in every block and gets of them (loop.context_parallel): "
                f"{sent(config, costs, request.gpus) / GIB:,.1f} GiB from each GPU in an update, whose time is not "
                "included"
            ]
        ),
        "every item is assumed to have its own caption in the cache",
        *judge,
    ]
