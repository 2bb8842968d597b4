"""Generate: draws what a store lacks, in batches, and keeps the reason of every sample that could not be drawn."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.evaluation.prompts import Prompt
from benchmarks.evaluation.protocols import Protocol
from benchmarks.evaluation.samplers import AdapterSampler, Job, Sampler
from benchmarks.evaluation.shard import Shard
from benchmarks.evaluation.store import Record, SampleStore, sample_seed
from seppo_core.io.progress import progress_bar

GIVE_UP_AFTER = 5
"""Samples in a row that fail at the start: then it is the model, not the prompts."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a call of `generate`."""

    drawn: int
    there: int
    """Samples that were there already."""
    failed: int


def missing(
    store: SampleStore, prompts: Sequence[Prompt], seeds: Sequence[int], shard: Shard | None, retry: bool = False
) -> list[tuple[Prompt, int]]:
    """The samples that are still to be drawn, in order; failures are not tried again unless `retry`."""
    mine = list(prompts) if shard is None else shard.of(list(prompts))
    jobs = [(prompt, seed) for prompt in mine for seed in seeds]
    found = [store.find(prompt, seed) for prompt, seed in jobs]
    return [
        job for job, record in zip(jobs, found, strict=True) if record is None or (retry and record.reason is not None)
    ]


def generate(
    store: SampleStore,
    prompts: Sequence[Prompt],
    protocol: Protocol,
    load: Callable[[], Sampler],
    about: dict,
    *,
    shard: Shard | None = None,
    batch_size: int = 4,
    retry: bool = False,
    name: str = "",
) -> Outcome:
    """Draws every sample that `store` lacks; `load` is called only if there is one.

    A sample that fails is tried alone, then written down with its reason. Raises RuntimeError if the first samples
    all fail, which no retry would cure.
    """
    wanted = len(prompts if shard is None else shard.of(list(prompts))) * len(protocol.seeds)
    jobs = missing(store, prompts, protocol.seeds, shard, retry)
    if not jobs:
        return Outcome(0, wanted, 0)
    sampler = load()
    order = [(prompt.key, seed) for prompt in prompts for seed in protocol.seeds]
    todo = {(prompt.key, seed) for prompt, seed in jobs}
    drawn = failed = 0
    batch = 1 if protocol.seed_mode == "sequential" else batch_size
    described = {**about, "sampler": sampler.describe()}
    with (
        store.writer(described, shard) as manifest,
        progress_bar(wanted, wanted - len(jobs), unit="sample", description=name) as bar,
    ):
        for part in _parts(order, todo, jobs, batch, sampler, protocol):
            records = _draw(sampler, store, part)
            for record in records:
                manifest.add(record)
                drawn, failed = drawn + (record.reason is None), failed + (record.reason is not None)
            if drawn == 0 and failed >= GIVE_UP_AFTER:
                raise RuntimeError(f"{name}: the first {failed} samples all failed: {records[-1].reason}")
            bar.update(len(part))
    return Outcome(drawn, wanted - len(jobs), failed)


def _parts(order, todo, jobs, size, sampler, protocol):
    """Batches of what is to do; in sequence, noise is drawn and dropped for what is there already."""
    if protocol.seed_mode != "sequential":
        yield from (jobs[start : start + size] for start in range(0, len(jobs), size))
        return
    if not isinstance(sampler, AdapterSampler):
        raise ValueError("a sequence of prompts needs a model of one of our families")
    by_key = {(prompt.key, seed): (prompt, seed) for prompt, seed in jobs}
    for key in order:
        if key in todo:
            yield [by_key[key]]
        else:
            sampler.skip()


def _draw(sampler: Sampler, store: SampleStore, part: list[tuple[Prompt, int]]) -> list[Record]:
    started = time.monotonic()
    try:
        frames = sampler.draw([Job(prompt.text, sample_seed(prompt, seed)) for prompt, seed in part])
    # whatever a model does to a prompt must not end an evaluation of hours; KeyboardInterrupt is not an Exception
    except Exception as error:
        if len(part) > 1:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return [record for job in part for record in _draw(sampler, store, [job])]
        (prompt, seed) = part[0]
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
        return [Record(prompt.key, seed, prompt.text, None, None, reason, round(time.monotonic() - started, 3))]
    seconds = (time.monotonic() - started) / len(part)
    return [store.write(prompt, seed, one, seconds) for (prompt, seed), one in zip(part, frames, strict=True)]
