"""Which of its samples an iteration trains on at each position, if one serves several pairs."""

from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from seppo_core.io import purposes
from seppo_core.io.rng import NEWEST, Draws, keyed_stream


@dataclass(frozen=True, kw_only=True)
class Meetings:
    """Deals an iteration's samples to its training positions, each with the winner that it was drawn for.

    An iteration of n positions draws n / `uses` samples and goes through all of them `uses` times, each time after the
    first in a new seeded order. Samples have positions of their own, which run on over the whole run as training
    positions do; any is found at once, so that a resume replays nothing.
    """

    per_iteration: int
    """Training positions of an iteration, a multiple of `uses`."""
    uses: int
    seed: int = 0
    draws: Draws = NEWEST

    def sample(self, position: int) -> int:
        """The position of the sample that training `position` meets; itself where each serves one pair."""
        count = self.per_iteration // self.uses
        iteration, offset = divmod(position, self.per_iteration)
        number, place = divmod(offset, count)
        if number:
            place = int(_shuffled(count, self.seed, iteration, number, self.draws)[place])
        return iteration * count + place


# of a pass and the next, in which a batch may lie
@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, iteration: int, number: int, draws: Draws) -> Tensor:
    return keyed_stream(draws, seed, purposes.MEETINGS, iteration, number).permutation(count)
