"""How far an iteration's reference samples lie apart: what collapses when a policy does."""

import torch

from seppo_core.training.sample_buffer import SampleBuffer

LOOKED_AT = 64


def sample_variance(buffer: SampleBuffer, count: int = LOOKED_AT) -> float | None:
    """Variance over `count` samples, evenly spaced in the buffer, averaged over the elements of a latent.

    A policy whose samples become alike, or flat, loses it. None for a single sample. One sample is in memory at a time
    (Welford's update), since latents of clips are large.
    """
    size = buffer.stop - buffer.start
    taken = min(count, size)
    if taken < 2:
        return None
    mean = spread = torch.zeros((), dtype=torch.float64)
    for number in range(taken):
        sample = buffer.read([buffer.start + number * size // taken])[0].double()
        change = sample - mean
        mean = mean + change / (number + 1)
        spread = spread + change * (sample - mean)
    return float((spread / (taken - 1)).mean())
