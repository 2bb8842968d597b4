"""Which winners an update sees and what is drawn for them: all of it a function of (seed, update, index)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from seppo_core.cache.reader import WinnerCache
from seppo_core.config.data import DataConfig
from seppo_core.config.method import Noise
from seppo_core.config.schema import Config
from seppo_core.io import purposes
from seppo_core.io.rng import NEWEST, Draws, keyed_stream
from seppo_core.methods.step import Batch, Held
from seppo_core.models.noise_path import NoisePath
from seppo_core.training.judged import Judged
from seppo_core.training.meetings import Meetings
from seppo_core.training.sample_buffer import SampleBuffer

Tracked = Callable[[Sequence[int], Sequence[int], Sequence[bool], Judged | None, bool], tuple[Tensor, Tensor]]
"""Gives the noises that winners and counterparts were drawn from: of training positions, their items in the cache,
whether each is mirrored, what a judge chose, and whether the counterparts are losers."""
HeldAt = Callable[[Sequence[int]], Held]
"""Gives the reference's errors, if they are kept, for the draws of training positions."""


@dataclass(frozen=True)
class WinnerOrder:
    """Winners in seeded order, a new permutation for every epoch; position p runs on over the whole run.

    Any position is found at once, so that a resume replays nothing. Every winner is used once before any is used again.
    """

    length: int
    seed: int
    draws: Draws = NEWEST
    items: Tensor | None = None
    """Their indices in the cache, (length,); None if they are all of it."""
    each: int = 1
    """Number of positions in a row that have one winner."""

    def of_each(self, count: int) -> "WinnerOrder":
        """This order with `count` positions for each of its own."""
        return replace(self, each=self.each * count)

    def captions(self, positions: Iterable[int]) -> list[int]:
        """Keys by which `chosen_captions` draws: positions of one winner in a row have one."""
        return [position // self.each for position in positions]

    def source(self, position: int, epochs: int | None) -> int:
        """The position in the first so many epochs, of the same winner, whose draws come again at `position`; itself if
        they are new there, as they always are with None."""
        epoch, offset = divmod(position, self.length)
        if epochs is None or epoch < epochs:
            return position
        first = epoch % epochs
        number = int(_epoch_order(self.length, self.seed, epoch, self.draws)[offset])
        return first * self.length + int(_epoch_places(self.length, self.seed, first, self.draws)[number])

    def item(self, position: int) -> int:
        """Index in the cache of the winner at `position`."""
        epoch, offset = divmod(position // self.each, self.length)
        number = int(_epoch_order(self.length, self.seed, epoch, self.draws)[offset])
        return number if self.items is None else int(self.items[number])


# of an epoch and the next, in which a batch may lie, and of those whose draws they repeat
@lru_cache(maxsize=4)
def _epoch_order(length: int, seed: int, epoch: int, draws: Draws) -> Tensor:
    return keyed_stream(draws, seed, purposes.ORDER, epoch).permutation(length)


@lru_cache(maxsize=2)
def _epoch_places(length: int, seed: int, epoch: int, draws: Draws) -> Tensor:
    """Where in the epoch each winner comes."""
    return _epoch_order(length, seed, epoch, draws).argsort()


def split_items(length: int, share: float, seed: int, draws: Draws = NEWEST) -> tuple[Tensor, Tensor]:
    """Indices of the items to train on, in order, and of those that are held out, drawn by the seed alone.

    At least one is held out if `share` is not 0. ValueError if none is left to train on.
    """
    count = max(1, round(share * length)) if share else 0
    if count >= length:
        raise ValueError(
            f"data.validation={share} holds out {count} of {length} items, so that none is left to train on; lower it, "
            "or prepare more"
        )
    drawn = keyed_stream(draws, seed, purposes.HELD_OUT).permutation(length)
    return drawn[count:].sort().values, drawn[:count]


def open_validation(data: DataConfig, cache: WinnerCache) -> WinnerCache | None:
    """The cache that `data.validation_cache` names, or None; ValueError if it is not of the same kind as `cache`."""
    path = data.validation_cache
    if path is None:
        return None
    validation = WinnerCache(path)
    for what in ("form", "latent_shape", "model"):
        here, there = getattr(validation.manifest, what), getattr(cache.manifest, what)
        if here != there:
            raise ValueError(
                f"data.validation_cache={path} was not prepared as {data.cache} was: its {what} is {here}, not "
                f"{there}; prepare it with this config, but for data.source and data.cache"
            )
    return validation


def check_form(config: Config, cache: WinnerCache) -> None:
    """ValueError if the method does not learn from what the cache holds."""
    if config.data.flip and not cache.manifest.mirrored:
        raise ValueError(
            f"data.flip=true, but {config.data.cache} was prepared without it; prepare again with data.flip"
        )
    needed = config.method.spec.supervision
    if (cache.form == "prompts") != (config.loop.judge is not None):
        asked = config.data.supervision
        raise ValueError(
            f"data.supervision={asked}, but {config.data.cache} holds {cache.form}; prepare the data with this config "
            "into another data.cache"
        )
    if not config.method.spec.learns_from(cache.form):
        raise ValueError(
            f"method.name={config.method.name} learns from {needed}, but {config.data.cache} holds {cache.form}; "
            f"prepare the data with data.supervision={needed} into another data.cache"
        )
    if config.method.noise == "tracked" and config.loop.judge is None:
        check_tracked(cache, config.data, config.method.spec.counterpart == "loser")


def check_tracked(cache: WinnerCache, data: DataConfig, losers: bool) -> None:
    """ValueError if the noise of an item is not known: that of a loser, of the winner of such a pair, or of a winner
    that `rank` drew at another size."""
    size = [data.height, data.width, data.frames]
    for index in range(len(cache)):
        for view in cache.manifest.views if losers else cache.manifest.views[:1]:
            noise = cache.noise(index, view)
            name = cache.ids([index])[0]
            if noise is None and losers:
                raise ValueError(
                    f"method.noise=tracked needs the noise that each half of a pair was drawn from, and {data.cache} "
                    f"does not tell that of {name} ({view}); prepare pairs that `rank` drew, or set method.noise=shared"
                )
            if noise is not None and noise["size"] != size:
                was, now = (" x ".join(map(str, one)) for one in (noise["size"], size))
                raise ValueError(
                    f"method.noise=tracked: {name} of {data.cache} was drawn as {was} (height x width x frames) and is "
                    f"prepared as {now}, so that its noise has another shape; prepare it as it was drawn"
                )


def chosen_captions(
    cache: WinnerCache, items: list[int], positions: Iterable[int], seed: int, draws: Draws
) -> list[int]:
    """Which of its captions each item has at its position: the winner there and the sample generated for it alike."""
    return [
        keyed_stream(draws, seed, purposes.CAPTION, position).integer(count) if count > 1 else 0
        for position, count in zip(positions, map(cache.caption_count, items), strict=True)
    ]


def onto(value: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on `device`. It goes to a GPU from pinned memory, since the copy of another would make whoever asks
    for it wait for all that the GPU still has to do."""
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)


@dataclass(frozen=True, kw_only=True)
class BatchMaker:
    """Assembles batches. What an item draws is keyed by (seed, update, index in the global batch) and nothing else,
    so that neither the process it runs in nor the accumulation changes it; where draws come again, update and index are
    those of the position that they first came at."""

    cache: WinnerCache
    order: WinnerOrder
    noise_path: NoisePath
    seed: int
    batch_size: int
    """Global batch: positions per update."""
    caption_dropout: float = 0.0
    flip: bool = False
    posterior: Literal["draw", "mode"] = "draw"
    noise: Noise = "independent"
    tracked: Tracked | None = None
    """What makes the noises of pairs again where `noise` is "tracked"."""
    losers: bool = False
    """Whether the counterpart is the loser of the cache's pair."""
    labels: bool = False
    """Whether items come with their label."""
    reward_clip: float | None = None
    """That of the judge's rewards, if every sample is an item that comes with one (`Judged.rewards`)."""
    anchor_draws: int = 0
    """Further timesteps and noises for the anchor."""
    repeats: int | None = None
    """Number of epochs after which all draws of an item come again; None never."""
    sample_repeats: int | None = None
    """The same of the samples in the buffer alone."""
    meetings: Meetings | None = None
    """Which sample each position meets; None if each meets its own."""
    draws: Draws = NEWEST

    def make(
        self,
        update: int,
        indices: range,
        buffer: SampleBuffer | None,
        device: torch.device,
        judged: Judged | None = None,
        held: HeldAt | None = None,
    ) -> Batch:
        """The batch of global-batch `indices` at `update` (0-based, counted over the whole run); see `at`."""
        return self.at([update * self.batch_size + index for index in indices], buffer, device, judged, held)

    def at(
        self,
        positions: Sequence[int],
        buffer: SampleBuffer | None,
        device: torch.device,
        judged: Judged | None = None,
        held: HeldAt | None = None,
    ) -> Batch:
        """The batch of training `positions`.

        Winner and counterpart share the timestep, the flip and whether their caption is dropped. With a buffer, the
        counterpart is the sample that the position meets, and the winner is the one that it was generated for. Winners
        and losers are those of `judged` if that is given. With `held` the batch has the reference's errors.
        """
        positions = [self.order.source(position, self.repeats) for position in positions]
        met = positions if self.meetings is None else [self.meetings.sample(position) for position in positions]
        # a sample comes again with the caption that it is of
        sampled = [self.order.source(position, self.sample_repeats) for position in met]
        keys = [divmod(position, self.batch_size) for position in positions]
        items = [self.order.item(position) for position in met]
        draws = [self._draw(*key, pair=self.losers or buffer is not None) for key in keys]
        moved = lambda value: onto(value, device)  # noqa: E731
        stack = lambda name: moved(torch.stack([draw[name] for draw in draws]))  # noqa: E731
        flipped = [draw["flipped"] for draw in draws]
        dropped = [draw["dropped"] for draw in draws]
        to_device = lambda condition: {key: moved(value) for key, value in condition.items()}  # noqa: E731
        chosen = chosen_captions(self.cache, items, self.order.captions(sampled), self.seed, self.draws)
        if judged is not None:
            winner = judged.winners(positions) if self.reward_clip is None else judged.buffer.read(positions)
        else:
            drawn = torch.stack([draw["posterior_noise"] for draw in draws])
            winner = self.cache.posterior(items, flipped).sample(drawn)
        counterpart, counterpart_condition = None, None
        if buffer is not None:
            counterpart = buffer.read(sampled)
        elif self.losers and judged is not None:
            counterpart = judged.losers(positions)
        elif self.losers:
            drawn = [self._posterior_noise(purposes.LOSER_POSTERIOR, *key) for key in keys]
            counterpart = self.cache.posterior(items, flipped, "loser").sample(torch.stack(drawn))
            counterpart_condition = to_device(self.cache.condition(items, dropped, "loser", chosen))
        noise, counterpart_noise = stack("noise"), None if counterpart is None else stack("counterpart_noise")
        if self.tracked is not None:
            both = self.tracked(sampled, items, flipped, judged, self.losers)
            noise, counterpart_noise = (moved(one) for one in both)
        anchor = self._anchor(keys) if self.anchor_draws else None
        return Batch(
            x0=moved(winner),
            condition=to_device(self.cache.condition(items, dropped, chosen=chosen)),
            t=moved(self.noise_path.timesteps(torch.stack([draw["u"] for draw in draws]))),
            noise=noise,
            noise_path=self.noise_path,
            counterpart=None if counterpart is None else moved(counterpart),
            counterpart_noise=counterpart_noise,
            counterpart_condition=counterpart_condition,
            desirable=moved(self.cache.labels(items)) if self.labels else None,
            reward=None if self.reward_clip is None else moved(judged.rewards(positions, self.reward_clip)),
            anchor_t=None if anchor is None else moved(anchor[0]),
            anchor_noise=None if anchor is None else moved(anchor[1]),
            held=None if held is None else Held(*(one if one is None else moved(one) for one in held(positions))),
        )

    def _anchor(self, keys: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Timesteps (m, b) and noises (m, b, c, [f], h, w)."""
        shape = (self.anchor_draws, *self.cache.latent_shape)
        u, noise = [], []
        for key in keys:
            stream = keyed_stream(self.draws, self.seed, purposes.ANCHOR, *key)
            u.append(stream.uniform(self.anchor_draws))
            noise.append(stream.normal(shape))
        t = self.noise_path.timesteps(torch.stack(u, dim=1).flatten())
        return rearrange(t, "(m b) -> m b", m=self.anchor_draws), torch.stack(noise, dim=1)

    def _posterior_noise(self, purpose: str, update: int, index: int) -> Tensor:
        shape = self.cache.latent_shape
        if self.posterior == "mode":
            return torch.zeros(shape)
        return keyed_stream(self.draws, self.seed, purpose, update, index).normal(shape)

    def _draw(self, update: int, index: int, pair: bool = True) -> dict:
        shape = self.cache.latent_shape
        stream = keyed_stream(self.draws, self.seed, purposes.DRAWS, update, index)
        u, dropout, flip = stream.uniform(3).unbind()
        noise = stream.normal(shape)
        # the last draw of its stream, so that leaving it out changes no other; noise is most of a batch's time
        counterpart_noise = stream.normal(shape) if pair and self.noise == "independent" else noise
        return {
            "u": u,
            "dropped": bool(dropout < self.caption_dropout),
            "flipped": self.flip and bool(flip < 0.5),
            "noise": noise,
            "counterpart_noise": counterpart_noise,
            "posterior_noise": self._posterior_noise(purposes.POSTERIOR, update, index),
        }
