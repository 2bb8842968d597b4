"""The training loop: Algorithm 1 of SePPO on accelerate. Knows no model family."""

import math
import os
import shutil
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers.optimization import get_scheduler

from seppo_core.adapter import Adapter
from seppo_core.attention import set_attention
from seppo_core.batches import BatchMaker, WinnerOrder
from seppo_core.buffer import SampleBuffer
from seppo_core.cache import WinnerCache
from seppo_core.checkpoint import Checkpoint, CheckpointFolder, Progress, load_checkpoint
from seppo_core.config import Config
from seppo_core.generate import SampleGenerator
from seppo_core.methods import Method
from seppo_core.preview import Preview
from seppo_core.reference import ReferencePool, make_reference
from seppo_core.run_log import RunLog, progress_bar
from seppo_core.tuning import load_trainable_state, trainable_parameters, trainable_state

SKIPS_IN_A_ROW = 10


class Trainer:
    """Runs K iterations of U updates: snapshot, draw a reference, generate its samples, train on the pairs.

    Optimiser, schedule and data position run on through all iterations. `adapter.denoiser` has to be tuned already
    (`tune_full` or `tune_lora`). The same call on the same folder continues a stopped run, bit for bit on a CPU.
    """

    def __init__(self, config: Config, adapter: Adapter, cache: WinnerCache, method: Method, folder: Path):
        self.config = config
        self.adapter = adapter
        self.method = method
        self.folder = folder
        loop = config.loop
        self.accelerator = Accelerator(mixed_precision=loop.mixed_precision)
        self.share = share_of_batch(self.accelerator, loop.batch_size, loop.micro_batch_size)
        self.total = loop.iterations * loop.updates

        denoiser = adapter.denoiser.to(self.accelerator.device)
        # dropout would break the tie between policy and reference, so that evaluation mode it is, for both
        denoiser.eval()
        set_attention(denoiser, loop.attention, self.accelerator.device)
        if loop.gradient_checkpointing:
            denoiser.enable_gradient_checkpointing()
        self.parameters = trainable_parameters(denoiser)
        # before prepare, which patches the forward that a frozen copy would then share
        self.reference = make_reference(denoiser) if method.uses_reference else None
        o = config.optimizer
        optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=o.lr, betas=tuple(o.betas), eps=o.eps, weight_decay=o.weight_decay
        )
        # diffusers' "constant" knows no warm-up
        name = "constant_with_warmup" if o.schedule == "constant" else o.schedule
        self.schedule = get_scheduler(name, optimizer, num_warmup_steps=o.warmup_updates, num_training_steps=self.total)
        self.policy, self.optimizer = self.accelerator.prepare(denoiser, optimizer)

        self.pool = ReferencePool(folder / "pool", config.method.reference, config.seed)
        self.checkpoints = CheckpointFolder(folder / "checkpoints", loop.keep_checkpoints)
        order = WinnerOrder(len(cache), config.seed)
        data = config.data
        self.batches = BatchMaker(
            cache, order, adapter, config.seed, loop.batch_size,
            data.caption_dropout, data.flip, data.posterior, config.method.noise,
        )  # fmt: skip
        samples = config.reference_samples
        self.generator = SampleGenerator(
            adapter, cache, order, config.seed, samples.steps, samples.guidance_scale, samples.scheduler,
            samples.reencode, self.accelerator.device,
        )  # fmt: skip
        self.progress = Progress()
        self.skips_in_a_row = 0

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def run(self, preview: Preview | None = None) -> None:
        """Trains to the end from wherever the folder stands. The main process draws the preview before the
        first update, whenever it is due, and after the last."""
        self._resume()
        log = RunLog(self.folder, self.progress.update) if self.is_main else None
        description = f"{self.config.method.name} on {self.folder.name}"
        bar = progress_bar(
            self.total, self.progress.update, unit="update", description=description, visible=self.is_main
        )
        if preview and self.is_main and self.progress.update == 0:
            self._draw(preview, log)
        try:
            for iteration in range(self.progress.update // self.config.loop.updates, self.config.loop.iterations):
                self._iterate(iteration, log, bar, preview)
        finally:
            bar.close()
            if log:
                log.close()
        if self.is_main:
            self._remove_buffers()
        self.accelerator.wait_for_everyone()

    def _iterate(self, iteration: int, log: RunLog | None, bar, preview: Preview | None) -> None:
        loop = self.config.loop
        first, last = iteration * loop.updates, (iteration + 1) * loop.updates
        drawn, buffer = None, None
        if self.reference is not None:
            if self.is_main and self.progress.update == first:
                self.pool.save(iteration, trainable_state(self._denoiser))
            self.accelerator.wait_for_everyone()
            drawn = self.pool.draw(iteration)
            self.reference.load(self.pool.load(drawn))
            buffer = self._fill_buffer(iteration)
        for update in range(self.progress.update, last):
            started = time.perf_counter()
            metrics = self._update(update, buffer)
            if update == first and drawn == iteration:
                _check_tie(metrics["loss"])
            metrics |= {"iteration": iteration} | ({} if drawn is None else {"reference": drawn})
            metrics["seconds"] = time.perf_counter() - started
            metrics["samples_per_second"] = loop.batch_size / metrics["seconds"]
            done = self.progress.update
            if log:
                log.write(done, metrics)
            bar.set_postfix(
                {name: f"{metrics[name]:.4g}" for name in ("loss", "winner_error", "share_s_plus") if name in metrics},
                refresh=False,
            )
            bar.update()
            if done % loop.checkpoint_every == 0 or done == last:
                self._save()
            if preview and self.is_main and (preview.due(done) or done == self.total):
                self._draw(preview, log)
        self.accelerator.wait_for_everyone()
        if buffer and self.is_main:
            buffer.remove()

    def _fill_buffer(self, iteration: int) -> SampleBuffer:
        """Generates what of the iteration's samples is not there yet, each process its chunks."""
        loop, samples = self.config.loop, self.config.reference_samples
        size = loop.updates * loop.batch_size
        # the chunk is part of the name: files of another chunk size hold other positions
        folder = self.folder / "buffer" / f"iteration-{iteration:04d}-by-{samples.batch_size}"
        buffer = SampleBuffer(folder, iteration * size, (iteration + 1) * size, samples.batch_size)
        if self.is_main:
            self._remove_buffers(keep=folder)
            buffer.remove_leftovers()
        self.accelerator.wait_for_everyone()
        chunks = buffer.missing(self.accelerator.process_index, self.accelerator.num_processes)
        self.accelerator.wait_for_everyone()
        if chunks:
            bar = progress_bar(
                sum(map(len, chunks)), unit="sample", description=f"samples for iteration {iteration}",
                visible=self.is_main,
            )  # fmt: skip
            with self.reference.active() as reference, self.accelerator.autocast(), bar:

                def generate(positions: range) -> torch.Tensor:
                    latents = self.generator(reference, iteration, positions)
                    bar.update(len(positions))
                    return latents

                buffer.fill(generate, chunks)
        self.accelerator.wait_for_everyone()
        return buffer

    def _remove_buffers(self, keep: Path | None = None) -> None:
        """Removes used-up samples, those too that a crash between a checkpoint and their removal left behind."""
        for folder in (self.folder / "buffer").glob("iteration-*"):
            if folder != keep:
                shutil.rmtree(folder)

    def _update(self, update: int, buffer: SampleBuffer | None) -> dict[str, float]:
        """One optimiser step on the global batch, accumulated over this process's micro-batches."""
        size = self.config.loop.micro_batch_size
        micro_batches = [range(first, first + size) for first in range(self.share.start, self.share.stop, size)]
        totals: dict[str, torch.Tensor] = {}
        for number, indices in enumerate(micro_batches):
            batch = self.batches.make(update, indices, buffer, self.accelerator.device)
            is_last = number == len(micro_batches) - 1
            # gradients are exchanged between processes on the last micro-batch only
            sync = nullcontext() if is_last else self.accelerator.no_sync(self.policy)
            with sync, self.accelerator.autocast():
                loss, metrics = self.method.loss(self.adapter, self.policy, self.reference, batch)
                self.accelerator.backward(loss / len(micro_batches))
            for name, value in ({"loss": loss.detach()} | metrics).items():
                totals[name] = totals.get(name, 0) + value.float() / len(micro_batches)
        norm = self._step()
        names = sorted(totals)
        values = self.accelerator.reduce(torch.stack([totals[name] for name in names]), reduction="mean").tolist()
        self.progress = Progress(update + 1, self.progress.skipped)
        return dict(zip(names, values, strict=True)) | norm | {"lr": self.schedule.get_last_lr()[0]}

    def _step(self) -> dict[str, float]:
        if all(parameter.grad is None for parameter in self.parameters.values()):
            raise RuntimeError("no gradient reached the trained weights; the policy was not in the graph of the loss")
        limit = self.config.optimizer.max_grad_norm
        norm = self.accelerator.clip_grad_norm_(list(self.parameters.values()), math.inf if limit is None else limit)
        finite = bool(torch.isfinite(norm))
        # under fp16 the scaler skips the step itself, and has to see it in order to lower its scale
        if finite or self.accelerator.scaler is not None:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.skips_in_a_row = 0 if finite else self.skips_in_a_row + 1
        if not finite:
            self.progress = Progress(self.progress.update, self.progress.skipped + 1)
        if self.skips_in_a_row >= SKIPS_IN_A_ROW:
            raise FloatingPointError(
                f"the gradient was not finite in {SKIPS_IN_A_ROW} updates in a row, the last of them "
                f"{self.progress.update + 1}; a lower learning rate or beta, or bf16 in place of fp16, usually helps"
            )
        return {"grad_norm": float(norm), "skipped": self.progress.skipped}

    def _draw(self, preview: Preview, log: RunLog) -> None:
        with self.accelerator.autocast():
            preview.draw(self._denoiser, self.progress.update, log.writer)

    @property
    def _denoiser(self) -> torch.nn.Module:
        return self.adapter.denoiser

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.is_main:
            scaler = self.accelerator.scaler
            self.checkpoints.save(
                Checkpoint(
                    self.progress,
                    trainable_state(self._denoiser),
                    self.optimizer.state_dict(),
                    self.schedule.state_dict(),
                    scaler.state_dict() if scaler is not None else {},
                )
            )
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        if self.is_main:
            self.checkpoints.clean()
        # the newest checkpoint as the main process sees it, so that all start from one
        latest = broadcast_object_list([self.checkpoints.latest()])[0]
        if latest is None:
            return
        checkpoint = load_checkpoint(latest)
        load_trainable_state(self._denoiser, checkpoint.policy)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.schedule.load_state_dict(checkpoint.scheduler)
        if self.accelerator.scaler is not None and checkpoint.scaler:
            self.accelerator.scaler.load_state_dict(checkpoint.scaler)
        self.progress = checkpoint.progress
        if self.is_main:
            print(f"continuing {self.folder} after update {self.progress.update} of {self.total}")


def share_of_batch(accelerator: Accelerator, batch_size: int, micro_batch_size: int) -> range:
    """The indices of the global batch that this process computes; ValueError where they cannot be dealt out evenly."""
    launched = int(os.environ.get("WORLD_SIZE", 1))
    world = accelerator.num_processes
    if world != launched:
        raise ValueError(
            f"the launcher started {launched} processes, accelerate sees {world}; on CPU launch with "
            "ACCELERATE_USE_CPU=true torchrun --nproc_per_node N"
        )
    step = world * micro_batch_size
    if batch_size % step:
        raise ValueError(
            f"loop.batch_size={batch_size} is not a multiple of {world} processes x loop.micro_batch_size="
            f"{micro_batch_size}; use e.g. {math.ceil(batch_size / step) * step}"
        )
    share = batch_size // world
    return range(accelerator.process_index * share, (accelerator.process_index + 1) * share)


def _check_tie(loss: float) -> None:
    """Policy and reference have equal weights here: a loss off log 2 means that they run in different numerics."""
    if abs(loss - math.log(2)) > 1e-3:
        warnings.warn(
            f"policy and reference have the same weights but the loss is {loss:.4f} instead of log 2 = 0.6931: they "
            "run in different precision or kernels, and the anchor's signs are noise until that is mended",
            stacklevel=2,
        )
