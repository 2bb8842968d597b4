"""The training loop: Algorithm 1 of SePPO on accelerate. Knows no model family."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import islice

import torch
from accelerate.utils import broadcast_object_list

from seppo_core.distributed.ranks import Ranks, naming_the_lost
from seppo_core.distributed.signals import Stopped
from seppo_core.methods.step import Batch, check_parted
from seppo_core.models.tuning import load_trainable_state, trainable_parameters, trainable_state
from seppo_core.run.checkpoint import Checkpoint, CheckpointFolder, Progress, load_checkpoint
from seppo_core.run.checkpoint_names import update_of
from seppo_core.run.disk_budget import check_run_space, run_bytes
from seppo_core.run.folder import run_pool
from seppo_core.run.previews import best_checkpoint, read_previews, rewind_previews
from seppo_core.run.recorder import RunEvents, RunRecorder
from seppo_core.run.status import BUFFER
from seppo_core.run.stopping import StopCoordinator
from seppo_core.training.batches import WinnerOrder, split_items
from seppo_core.training.feed import batch_maker
from seppo_core.training.judged import Judged
from seppo_core.training.kept_errors import kept_errors
from seppo_core.training.loop_judge import judged_samples
from seppo_core.training.optim import Ema, Stepper, apply_config, check_moments, make_optimizer, make_schedule
from seppo_core.training.parallel import make_strategy
from seppo_core.training.prefetch import Prefetch
from seppo_core.training.preview_rounds import PreviewRounds
from seppo_core.training.reference_samples import ReferenceSampler, ReferenceSamples, Samples, sample_variance
from seppo_core.training.setup import RunParts
from seppo_core.training.validation import make_validation


class Trainer:
    """Runs K iterations of U updates: snapshot, draw a reference, generate its samples, train on the pairs.

    Optimiser, schedule and data position run on through all iterations. `parts` come from `setup.build`. The same parts
    on the same folder continue a stopped run, bit for bit on a CPU.
    """

    def __init__(self, parts: RunParts):
        config, adapter, method, cache, folder = parts.config, parts.adapter, parts.method, parts.cache, parts.folder
        self.config = config
        self.adapter = adapter
        self.method = method
        self.folder, self.lock, self.put_down_changes = folder, parts.lock, parts.put_down_changes
        self.previews = PreviewRounds(parts)
        loop = config.loop
        self.accelerator = parts.accelerator
        text_too = config.model.spec.context == "latents and text"
        self.layout = make_strategy(self.accelerator, loop, config.model.offload, text_too)
        self.ranks = Ranks.of(self.accelerator)
        self.share = self.ranks.share(loop.batch_size, loop.micro_batch_size, loop.context_parallel)
        size = loop.micro_batch_size
        self.micro_batches = [range(first, first + size) for first in range(self.share.start, self.share.stop, size)]
        self.total = loop.iterations * loop.updates_per_iteration

        denoiser = adapter.denoiser
        self.reference = self.layout.place(denoiser, config.holds_reference)
        self.parameters = trainable_parameters(denoiser)
        decay = config.optimizer.ema_decay
        self.ema = None if decay is None else Ema(self.parameters, decay)
        optimizer = make_optimizer(config.optimizer, self.parameters)
        if self.reference is not None:
            self.reference.track(optimizer)
        self.schedule = make_schedule(config.optimizer, optimizer, self.total, config.draws)
        self.policy, self.optimizer = self.layout.wrap(denoiser, optimizer)
        self.stepper = Stepper(
            self.layout, self.optimizer, self.schedule, list(self.parameters.values()),
            config.optimizer.max_grad_norm,
        )  # fmt: skip

        self.pool = run_pool(folder, config)
        best = partial(best_checkpoint, folder) if loop.keep_best else lambda: None
        self.checkpoints = CheckpointFolder(folder / "checkpoints", loop.keep_checkpoints, loop.keep_every, best)
        data = config.data
        items, held_out = split_items(len(cache), data.validation, config.seed, config.draws)
        each = 1 if method.spec.pairs_candidates else loop.judge_samples
        order = WinnerOrder(len(items), config.seed, config.draws, items if data.validation else None, each)
        self.drawn = None if config.sample_epochs is None else loop.drawn(len(items), config.sample_epochs)
        self.validation = make_validation(parts, self.layout, order, held_out)
        self.start: dict[str, float] = {}
        s = config.reference_samples
        sampler = ReferenceSampler(
            adapter=adapter, cache=cache, order=order, seed=config.seed, settings=s, device=self.accelerator.device,
            posterior=data.posterior, draws=config.draws,
        )  # fmt: skip
        self.samples = ReferenceSamples(
            folder / BUFFER, self.layout, sampler, size=loop.updates_per_iteration * loop.batch_size // s.uses,
            chunk=s.batch_size, kept=self.drawn,
        )  # fmt: skip
        self.judged = judged_samples(parts, self.layout, sampler) if loop.judge is not None else None
        self.batches = batch_maker(parts, order, sampler, self.judged)
        keeps = loop.reference_draws is not None
        self.errors = kept_errors(parts, self.layout, self.batches, self.drawn) if keeps else None
        self.progress = Progress()
        self.stop = StopCoordinator(self.accelerator, collective=self.layout.collective)

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def run(self) -> None:
        """Trains to the end from wherever the folder stands. The main process draws the preview before the
        first update, whenever it is due, and after the last.

        SIGTERM and SIGINT save and raise Stopped. UnhealthyRun if a health gate stops the run, OSError if the disk
        refuses; the last checkpoint is then as it was.
        """
        with self.stop, RunEvents(self.lock, self.ranks, self.stop.store) as events, naming_the_lost():
            latent_bytes = 4 * math.prod(self.batches.cache.latent_shape)
            needed = run_bytes(self.config, self.parameters.values(), latent_bytes, self.batches.order.length)
            self.ranks.run_on_main(lambda: check_run_space(self.folder, needed))
            self._resume()
            self.ranks.run_on_main(self.put_down_changes)
            done = self.progress.update
            with RunRecorder(self.config, self.method, events, done=done, drawn=self.drawn) as recorder:
                self.previews.tell_start()
                try:
                    self._train(recorder)
                except Stopped as stopped:
                    # before the first update there is nothing to keep
                    if self.progress.update:
                        self._save(recorder)
                    where = f"after update {self.progress.update} of {self.total}"
                    raise Stopped(stopped.signum, where) from stopped
            if self.is_main:
                for made in filter(None, (self.samples, self.judged, self.errors)):
                    made.remove()
            self.accelerator.wait_for_everyone()

    def _train(self, recorder: RunRecorder) -> None:
        # one that a stop kept from being drawn is drawn now, if the first process says so: it may be there any moment
        if self.ranks.run_on_main(lambda: self.previews.lacks(self.progress.update)):
            self._draw(recorder)
        for iteration in range(
            self.progress.update // self.config.loop.updates_per_iteration, self.config.loop.iterations
        ):
            self._iterate(iteration, recorder)

    def _iterate(self, iteration: int, recorder: RunRecorder) -> None:
        loop = self.config.loop
        first, last = iteration * loop.updates_per_iteration, (iteration + 1) * loop.updates_per_iteration
        drawn = sampler = buffer = judged = None
        if self.reference is not None:
            if self.progress.update == first and self.pool.keeps(iteration):
                state = trainable_state(self._denoiser, keep=self.is_main)
                if self.is_main:
                    self.pool.save(iteration, state)
                    self._forget(iteration)
            self.accelerator.wait_for_everyone()
            if self.judged is not None:
                self.reference.load(self.pool.load(iteration))
                content = self.pool.content(iteration)
                judged = self.judged.fill(iteration, self.reference, content, self.stop, recorder)
        if self.method.spec.uses_reference:
            drawn, sampler = self.pool.choose(iteration), self.pool.choose_sampler(iteration)
            self.reference.load(self.pool.load(sampler))
            if self.method.spec.counterpart == "generated":
                buffer = self.samples.fill(iteration, self.reference, self.pool.content(sampler), self.stop, recorder)
            if drawn != sampler:
                self.reference.load(self.pool.load(drawn))
            if self.errors is not None:
                self.errors.fill(iteration, self.reference, self.pool.content(drawn), self.stop, recorder, buffer)
        about = {"iteration": iteration} | ({} if drawn is None else self.pool.about(iteration))
        if buffer is not None and (variance := sample_variance(buffer)) is not None:
            about["sample_variance"] = variance
        about |= {} if judged is None else judged.metrics()
        updates = range(self.progress.update, last)
        with self._feed(updates, buffer, judged) as batches:
            for update in updates:
                started, waited = time.perf_counter(), batches.waited
                metrics = self._update(update, batches) | about
                metrics["seconds"] = time.perf_counter() - started
                metrics["data_seconds"] = batches.waited - waited
                metrics["samples_per_second"] = loop.batch_size / metrics["seconds"]
                done = self.progress.update
                recorder.updated(done, metrics | self._validate(done))
                if done % loop.checkpoint_every == 0 or done % (loop.keep_every or self.total) == 0 or done == last:
                    self._save(recorder)
                self.stop.check_all_ranks()
                self._draw(recorder)
        self.accelerator.wait_for_everyone()
        for used in (buffer, judged and judged.buffer):
            if used and self.is_main:
                used.remove()

    def _forget(self, iteration: int) -> None:
        """Deletes the snapshots that neither this iteration and those after draw nor a run that goes on from one of the
        newest checkpoints."""
        kept = [update_of(path) // self.config.loop.updates_per_iteration for path in self.checkpoints.newest()]
        self.pool.forget(min([iteration, *kept]))

    def _feed(self, updates: range, buffer: Samples | None, judged: Judged | None) -> Prefetch:
        """The micro-batches of `updates` in the order that `_update` asks for them, made ahead of it."""
        passes = 2 if self.method.observes else 1
        keys = ((update, indices) for update in updates for _ in range(passes) for indices in self.micro_batches)
        device = self.accelerator.device
        held = None if self.errors is None else self.errors.at
        make = lambda key: self.batches.make(*key, buffer, device, judged, held)  # noqa: E731
        return Prefetch(make, keys, self.config.data.prefetch)

    def _update(self, update: int, batches: Iterator[Batch]) -> dict[str, float]:
        """One optimiser step on the global batch, accumulated over this process's micro-batches."""
        count = len(self.micro_batches)
        observed = self._observe(islice(batches, count)) if self.method.observes else {}
        totals: dict[str, torch.Tensor] = {}
        for number, batch in enumerate(islice(batches, count)):
            # gradients of an update that is broken off are dropped; it is done again, whole
            self.stop.check_between(number)
            is_last = number == count - 1
            sync = nullcontext() if is_last else self.layout.accumulating(self.policy)
            with sync, self.accelerator.autocast():
                with self.layout.saving():
                    loss, metrics = self.method.loss(self.adapter, self.policy, self.reference, batch, observed)
                self.accelerator.backward(loss / self.layout.divisor(count))
                if number == 0 and "gap_size" in metrics and self._looks_at_gap(update):
                    check_parted(self.adapter, self._denoiser, self.reference, batch, float(metrics["gap_size"]))
            _add(totals, {"loss": loss.detach()} | metrics, count)
        rate = self.schedule.get_last_lr()[0]
        means, applied = self.stepper.step(self._over_processes(totals))
        self.progress = Progress(update + 1, self.progress.skipped + (not applied))
        if self.ema:
            self.ema.update(self.progress.update)
        return means | {"skipped": self.progress.skipped, "lr": rate}

    def _validate(self, done: int) -> dict[str, float]:
        """What the held-out items say of the weights after an update, if they are due; with the first update, what the
        start's error is, unless a reference tells that."""
        if self.validation is None:
            return {}
        start = self.start if done == 1 and self.reference is None else {}
        return start | (self.validation.metrics() if self.validation.due(done, self.total) else {})

    def _looks_at_gap(self, update: int) -> bool:
        """Whether the difference of policy and reference is measured once more: seldom, and the less the later."""
        parted = self.reference is not None and not self.reference.equals_policy
        return parted and update & (update - 1) == 0

    def _observe(self, batches: Iterator[Batch]) -> dict[str, torch.Tensor]:
        """The scalars that the method needs of the whole batch before any of its loss."""
        totals: dict[str, torch.Tensor] = {}
        for number, batch in enumerate(batches):
            self.stop.check_between(number)
            with self.accelerator.autocast():
                observed = self.method.observe(self.adapter, self.adapter.denoiser, self.reference, batch)
            _add(totals, observed, len(self.micro_batches))
        return self._over_processes(totals)

    def _over_processes(self, totals: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        names = sorted(totals)
        values = self.accelerator.reduce(torch.stack([totals[name] for name in names]), reduction="mean")
        return dict(zip(names, values, strict=True))

    def _draw(self, recorder: RunRecorder) -> None:
        """Draws the preview if it is due: at the start, at the end, and as often as the config says. Of one that scores
        best so far the weights are kept, if they are to be."""
        previews, update = self.previews, self.progress.update
        if not previews.due(update, self.total):
            return
        if not update:
            recorder.say(f"draws the preview of the start: {previews.extent}")
        with self.stop.independent():
            if self.is_main or self.layout.collective:
                average = self.ema.in_place() if self.ema else nullcontext()
                with average, self.accelerator.autocast():
                    drawn = self.stop.drain(previews.render(self._denoiser, update, recorder.writer, self.is_main))
            if self.is_main:
                previews.finish(update, drawn, self.stop, recorder)
        if self.config.loop.keep_best and self.ranks.run_on_main(lambda: previews.is_best(update)):
            self._save(recorder)

    @property
    def _denoiser(self) -> torch.nn.Module:
        return self.adapter.denoiser

    def _save(self, recorder: RunRecorder) -> None:
        self.accelerator.wait_for_everyone()
        scaler = self.accelerator.scaler
        # all processes gather, and the main one keeps
        checkpoint = Checkpoint(
            self.progress,
            trainable_state(self._denoiser, keep=self.is_main),
            self.layout.optimizer_state(self.optimizer, keep=self.is_main),
            self.schedule.state_dict(),
            scaler.state_dict() if scaler is not None else {},
            self.ema.state(keep=self.is_main) if self.ema else {},
        )
        if self.is_main:
            with recorder.saving(self.progress.update):
                self.checkpoints.save(checkpoint)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        if self.is_main:
            self.checkpoints.clean()
        # the newest checkpoint as the main process sees it, so that all start from one
        latest = broadcast_object_list([self.checkpoints.latest()])[0]
        self._rewind(0 if latest is None else update_of(latest))
        if self.is_main:
            for line in read_previews(self.folder).complaints():
                print(line)
            rewind_previews(self.folder, 0 if latest is None else update_of(latest))
        checkpoint = None if latest is None else load_checkpoint(latest)
        # what is measured is held against the weights before any training, which are still here
        if self.validation and (
            checkpoint is None or (self.validation.every and checkpoint.progress.update < self.total)
        ):
            self.start = self.validation.begin()
        if checkpoint is None:
            return
        check_moments(self.config.optimizer, checkpoint.optimizer)
        load_trainable_state(self._denoiser, checkpoint.policy)
        self.layout.load_optimizer(self.optimizer, checkpoint.optimizer)
        self.schedule.load_state_dict(checkpoint.scheduler)
        apply_config(self.config.optimizer, self.optimizer, self.schedule)
        if self.accelerator.scaler is not None and checkpoint.scaler:
            self.accelerator.scaler.load_state_dict(checkpoint.scaler)
        if self.ema:
            # a checkpoint of before the average was asked for has none; it then starts from here
            self.ema.load(checkpoint.ema or checkpoint.policy)
        self.progress = checkpoint.progress
        if self.is_main:
            print(f"continuing {self.folder} after update {self.progress.update} of {self.total}")

    def _rewind(self, update: int) -> None:
        """Makes the pool what it was after `update`: without later snapshots, of a course that may have been another,
        and with entry 0, which the weights at hand are until a checkpoint is loaded."""
        if self.reference is None:
            return
        loop, pool = self.config.loop, self.pool
        if self.is_main:
            pool.rewind(update // loop.updates_per_iteration)
        needed = pool.needed(update, loop.updates_per_iteration, loop.iterations)
        if 0 in needed and not self.ranks.run_on_main(lambda: pool.holds(0)):
            state = trainable_state(self._denoiser, keep=self.is_main)
            if self.is_main:
                pool.save(0, state)


def _add(totals: dict[str, torch.Tensor], metrics: dict[str, torch.Tensor], count: int) -> None:
    for name, value in metrics.items():
        totals[name] = totals.get(name, 0) + value.detach().float() / count
