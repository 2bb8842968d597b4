"""Time grids of flow-matching models that lean towards noise the more tokens a picture or clip has."""

from diffusers.configuration_utils import FrozenDict


def dynamic_shift(config: FrozenDict, tokens: int, max_shift: float = 1.15) -> float:
    """The μ that a scheduler's `set_timesteps` takes: linear in `tokens`, the length of the denoiser's sequence.

    μ goes from `base_shift` at `base_image_seq_len` to `max_shift` at `max_image_seq_len`, as the scheduler's `config`
    says or, where it is silent, from 0.5 at 256 to the pipeline's own `max_shift` at 4096; σ is then shifted by a
    factor of e^μ (SD3, arXiv 2403.03206, 2024, section 5.3.2).
    """
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    start, end = config.get("base_shift", 0.5), config.get("max_shift", max_shift)
    return start + (end - start) * (tokens - low) / (high - low)
