"""The pool of references: earlier policies, kept on disk as snapshots, one of which is drawn every iteration."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from seppo_core.config.method_specs import Strategy
from seppo_core.io import purposes
from seppo_core.io.atomic import remove_leftovers, save_tensors
from seppo_core.io.ledger import Ledger
from seppo_core.io.remembered import remembered_sha256
from seppo_core.io.rng import NEWEST, Draws, keyed_stream
from seppo_core.models.finite import first_not_finite


class ReferencePool:
    """Snapshots of the raw policy (never of its EMA), one at the start of every iteration; entry 0 is the start itself.

    `choose` picks the one that generates an iteration's samples and stands as reference in its loss (Algorithm 1 of
    arXiv 2410.05255): "random" is uniform over all entries so far, "latest" the policy at the iteration's start,
    "initial" entry 0. The choice is keyed by (seed, iteration), hence the same in every process and after a resume.

    `ledger` holds the hashes of the snapshots; without one nothing is compared.

    `sampled_from` is the strategy by which the one that generates is chosen, if it is not the loss's.

    `decay` gives the weight of the entry before in the one of an iteration, the rest being the policy's: entries are
    then moving averages. Above 0, an iteration needs the entry before it too.

    `judged` says that the newest entry too generates samples of every iteration, which a judge scores.

    `window` makes "random" another method than the paper's: it draws from the newest so many entries, and those
    before can be deleted (`forget`).
    """

    def __init__(
        self,
        folder: Path,
        strategy: Strategy = "random",
        seed: int = 0,
        window: int | None = None,
        sampled_from: Strategy | None = None,
        ledger: Ledger | None = None,
        draws: Draws = NEWEST,
        judged: bool = False,
        decay: Callable[[int], float] = lambda iteration: 0.0,
    ):
        if window is not None and (window < 1 or strategy != "random"):
            raise ValueError(f"window={window} needs strategy random and at least 1; the strategy is {strategy}")
        self.folder = folder
        self.strategy = strategy
        self.seed = seed
        self.window = window
        self.sampled_from = sampled_from or strategy
        self.ledger = ledger
        self.draws = draws
        self.judged = judged
        self.decay = decay

    def keeps(self, iteration: int) -> bool:
        """Whether entry `iteration` can ever be drawn, so that it is worth its disk."""
        return iteration == 0 or self.judged or {self.strategy, self.sampled_from} != {"initial"}

    def save(self, iteration: int, state: dict[str, Tensor]) -> None:
        """Writes entry `iteration` whole or not at all; an entry that is there stays as it is, unless it is damaged.

        FloatingPointError, and nothing is written, if a value is not finite.
        """
        path = self.path(iteration)
        if iteration and (weight := self.decay(iteration)):
            before = self.load(iteration - 1)
            state = {name: torch.lerp(value, before[name].to(value), weight) for name, value in state.items()}
        if path.exists():
            if not self._is_damaged(iteration, state):
                return
            print(f"{path} was damaged and is written anew from the policy")
        if (name := first_not_finite(state)) is not None:
            raise FloatingPointError(
                f"{name!r} of the policy is not finite at the start of iteration {iteration}: the run has diverged; go "
                "on from an earlier checkpoint with a lower optimizer.lr"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with nullcontext() if self.ledger is None else self.ledger.writing(path):
            save_tensors(path, state, {"iteration": str(iteration)})

    def _is_damaged(self, iteration: int, state: dict[str, Tensor]) -> bool:
        """Whether the entry cannot be what was written, `state` if that was not recorded."""
        try:
            there = self.load(iteration)
        except ValueError:
            return True
        if self.ledger is None or self.ledger.knows(self.path(iteration)):
            return False
        return there.keys() != state.keys() or not all(torch.equal(there[name], state[name]) for name in state)

    def choose(self, iteration: int) -> int:
        """Index of the reference for `iteration`, in 0..iteration."""
        return self._choose(self.strategy, iteration)

    def choose_sampler(self, iteration: int) -> int:
        """Index of the entry that generates the samples of `iteration`, in 0..iteration."""
        return self._choose(self.sampled_from, iteration)

    def _choose(self, strategy: Strategy, iteration: int) -> int:
        if strategy == "initial":
            return 0
        if strategy == "latest":
            return iteration
        if strategy == "random":
            oldest = self._oldest(iteration)
            stream = keyed_stream(self.draws, self.seed, purposes.REFERENCE, iteration)
            return oldest + stream.integer(iteration + 1 - oldest)
        raise ValueError(f'reference strategy {strategy!r} is not known; use "random", "latest" or "initial"')

    def entries(self, iteration: int) -> int:
        """Number of entries that `choose` chooses from."""
        return iteration + 1 - self._oldest(iteration) if self.strategy == "random" else 1

    def about(self, iteration: int) -> dict[str, int]:
        """What the metrics of `iteration` tell of its references."""
        found = {"reference": self.choose(iteration), "pool": self.entries(iteration)}
        found |= {} if self.window is None else {"remember": self.window}
        return found | ({} if self.sampled_from == self.strategy else {"sampler": self.choose_sampler(iteration)})

    def forget(self, iteration: int) -> None:
        """Deletes what `iteration` and those after cannot draw; nothing, unless `window` is set."""
        for index in range(self._oldest(iteration)):
            self._delete(index)

    def rewind(self, iteration: int) -> None:
        """Deletes entries after `iteration`, which a run that goes on from there saves anew, and half-written ones."""
        if not self.folder.is_dir():
            return
        remove_leftovers(self.folder)
        for path in self.folder.glob("snapshot-*.safetensors"):
            number = path.stem.removeprefix("snapshot-")
            if number.isdecimal() and int(number) > iteration:
                self._delete(int(number))

    def needed(self, update: int, per_iteration: int, iterations: int) -> list[int]:
        """Entries that a run of so many `iterations`, which stands after `update`, still draws and no longer saves."""
        now, inside = divmod(update, per_iteration)
        drawn = {entry for iteration in range(now, iterations) for entry in self.drawn(iteration)}
        return sorted(entry for entry in drawn if entry < now + (inside > 0))

    def missing(self, update: int, per_iteration: int, iterations: int) -> list[int]:
        """Those of `needed` that are not there, but for entry 0, which the start itself gives again."""
        entries = self.needed(update, per_iteration, iterations)
        return [entry for entry in entries if entry and not self.holds(entry)]

    def drawn(self, iteration: int) -> set[int]:
        """The entries that `iteration` reads."""
        newest = {iteration} if self.judged else set()
        if iteration and self.decay(iteration):
            newest |= {iteration - 1}
        return {self.choose(iteration), self.choose_sampler(iteration)} | newest

    def holds(self, index: int) -> bool:
        """Whether entry `index` is there and, as far as can be seen, as it was written."""
        path = self.path(index)
        if not path.exists():
            return False
        if self.ledger is not None and self.ledger.knows(path):
            return self.ledger.problem(path) is None
        try:
            self.load(index)
        except ValueError:
            return False
        return True

    def _delete(self, index: int) -> None:
        self.path(index).unlink(missing_ok=True)
        if self.ledger is not None:
            self.ledger.forget(self.path(index))

    def load(self, index: int) -> dict[str, Tensor]:
        """State of entry `index`, on the CPU; FileNotFoundError if it is not there, ValueError if it is damaged."""
        path = self.path(index)
        if not path.exists():
            raise FileNotFoundError(f"reference snapshot {path} is missing; the run cannot go on without it")
        state, problem = read_snapshot(path, self.ledger)
        if problem is not None:
            raise ValueError(
                f"reference snapshot {path} {problem}, and the run cannot go on without it; bring it back from a copy, "
                "or name another folder as `run`"
            )
        return state

    def content(self, index: int) -> str:
        """The hash of entry `index`."""
        return remembered_sha256(self.path(index))

    def _oldest(self, iteration: int) -> int:
        return 0 if self.window is None else max(0, iteration + 1 - self.window)

    def path(self, index: int) -> Path:
        """The file of entry `index`."""
        return self.folder / f"snapshot-{index:04d}.safetensors"


def read_snapshot(path: Path, ledger: Ledger | None) -> tuple[dict[str, Tensor], str | None]:
    """A snapshot's state on the CPU, and what is wrong with it if anything is; `ledger` is the record of its run."""
    if ledger is not None and (problem := ledger.problem(path)) is not None:
        return {}, problem
    try:
        state = load_file(path)
    except SafetensorError as error:
        return {}, f"cannot be read ({error})"
    name = first_not_finite(state)
    return state, None if name is None else f"holds values that are not finite ({name!r})"
