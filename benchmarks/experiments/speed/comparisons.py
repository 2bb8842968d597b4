"""All comparisons, in the order that they run in: those that share a model follow one another."""

from benchmarks.experiments.speed.feeding import cache, loader
from benchmarks.experiments.speed.kernels import attention, compiled, precision
from benchmarks.experiments.speed.savers import checkpointing, offload, optimizer, reference
from benchmarks.experiments.speed.stage import Comparison
from benchmarks.experiments.speed.updates import accumulation, anchor, methods, parts

COMPARISONS = [
    Comparison("methods", "An update by method", "What does a method cost beside supervised fine-tuning?", methods),
    Comparison("parts", "Parts of a SePPO update", "Where does the time of an update go?", parts),
    Comparison("anchor", "The averaged anchor", "What do further draws for the sign s cost?", anchor),
    Comparison(
        "accumulation", "Micro-batches at one batch size", "How much faster are larger micro-batches?", accumulation
    ),
    Comparison(
        "checkpointing", "Gradient checkpointing", "What does recomputing activations cost, and save?", checkpointing
    ),
    Comparison("attention", "Attention kernels", "Which kernel is fastest here?", attention),
    Comparison("precision", "Precision", "What does half precision gain?", precision),
    Comparison("compile", "torch.compile", "What does compiling the denoiser gain, and when is it earned?", compiled),
    Comparison("optimizer", "AdamW in 8 bits", "What do moments of 8 bits cost, and save?", optimizer),
    Comparison(
        "cache", "Cached latents", "What does encoding pictures in every step cost, as Diffusion-DPO's script does?",
        cache,
    ),
    Comparison("loader", "The loader", "Does a step ever wait for its batch?", loader),
    Comparison("offload", "A reference that waits on the CPU", "What does moving it cost, and save?", offload),
    Comparison("reference", "The reference of a LoRA", "Is a second LoRA slower than a copy, and smaller?", reference),
]  # fmt: skip
