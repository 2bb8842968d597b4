"""What assembles the batches of a run, of the run's parts."""

from seppo_core.training.batches import BatchMaker, WinnerOrder
from seppo_core.training.loop_judge import JudgedSamples
from seppo_core.training.meetings import Meetings
from seppo_core.training.reference_samples import ReferenceSampler
from seppo_core.training.setup import RunParts
from seppo_core.training.tracked_noise import tracked_noise


def batch_maker(
    parts: RunParts, order: WinnerOrder, sampler: ReferenceSampler, judged: JudgedSamples | None
) -> BatchMaker:
    """The batches of a run on the winners of `order`; `sampler` draws the reference's samples, and `judged` has those
    of the policy. ValueError if the config asks for noises that cannot be known."""
    config, method, cache = parts.config, parts.method, parts.cache
    data, loop, uses = config.data, config.loop, config.reference_samples.uses
    positions = loop.updates_per_iteration * loop.batch_size
    meetings = Meetings(per_iteration=positions, uses=uses, seed=config.seed, draws=config.draws)
    return BatchMaker(
        cache=cache, order=order, noise_path=parts.noise_path, seed=config.seed, batch_size=loop.batch_size,
        caption_dropout=data.caption_dropout, flip=data.flip, posterior=data.posterior, noise=method.noise,
        losers=method.spec.counterpart == "loser", labels=method.spec.supervision == "labels",
        repeats=loop.reference_draws, sample_repeats=config.reference_samples.repeat_after,
        meetings=meetings,
        reward_clip=vars(method).get("reward_clip"), anchor_draws=method.anchor_draws, draws=config.draws,
        tracked=tracked_noise(config, cache, sampler, judged) if method.noise == "tracked" else None,
    )  # fmt: skip
