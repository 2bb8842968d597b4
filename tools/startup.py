"""`python -m tools.startup CONFIG [OPTION …]`: where the processor's seconds go until a run's first update is done.

It begins the run of a prepared config of `seppo-image` in a temporary folder, and ends it with the first update.
Seconds are of the processor. A package's are its own modules', a part's are without imports and parts within it.
"""

import importlib.machinery
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

LEAST = 0.05  # seconds below which a package has no line of its own


class FirstUpdate(BaseException):
    """Ends the run."""


class Clock:
    """Seconds of each part, without those of the parts and the imports within it."""

    def __init__(self):
        self.imports: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()
        self._within: list[float] = []

    @contextmanager
    def part(self, kind: Counter[str], name: str) -> Iterator[None]:
        """Context whose own time is that of `name`."""
        began = time.process_time()
        self._within.append(0.0)
        try:
            yield
        finally:
            whole = time.process_time() - began
            kind[name] += whole - self._within.pop()
            if self._within:
                self._within[-1] += whole

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Counts the calls of `owner.method` as the part `name`."""
        inner = getattr(owner, method)

        def timed(*arguments, **options):
            with self.part(self.parts, name):
                return inner(*arguments, **options)

        setattr(owner, method, timed)

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Context in which modules that are imported count for their top package."""
        loaders = importlib.machinery.SourceFileLoader, importlib.machinery.ExtensionFileLoader
        with ExitStack() as stack:
            for loader, name in product(loaders, ("create_module", "exec_module")):
                stack.enter_context(patch.object(loader, name, self._timed(getattr(loader, name))))
            yield

    def _timed(self, inner: Callable) -> Callable:
        def timed(loader, module):
            with self.part(self.imports, loader.name.partition(".")[0]):
                return inner(loader, module)

        return timed

    def table(self) -> list[str]:
        """Lines of a table: imports, the longest first, then the parts of the run."""
        large = [one for one in self.imports.most_common() if one[1] >= LEAST]
        rest = f"{len(self.imports) - len(large)} others", self.imports.total() - sum(taken for _, taken in large)
        lines = [(f"imports: {name}", taken) for name, taken in [*large, rest]]
        lines += [("imports in all", self.imports.total()), *self.parts.items(), ("after imports", self.parts.total())]
        return ["| | seconds |", "|---|---|", *(f"| {name} | {taken:.2f} |" for name, taken in lines)]


def watch(clock: Clock) -> None:
    """Counts the parts of a run up to its first update, which ends it."""
    from seppo_core.cli import commands
    from seppo_core.training.preview_rounds import PreviewRounds
    from seppo_core.training.reference_samples import ReferenceSamples
    from seppo_core.training.trainer import Trainer

    clock.wrap(commands, "build", "loading: cache, base, captions of previews")
    clock.wrap(Trainer, "_draw", "first previews: drawing")
    clock.wrap(PreviewRounds, "finish", "first previews: scores and page")
    clock.wrap(ReferenceSamples, "fill", "first samples")
    clock.wrap(Trainer, "_update", "first update")
    update = Trainer._update

    def last(self, number, batches):
        update(self, number, batches)
        raise FirstUpdate

    Trainer._update = last


def main(argv: list[str]) -> int:
    clock = Clock()
    with TemporaryDirectory() as folder, clock.importing(), clock.part(clock.parts, "command line, checks, the rest"):
        from seppo_core.cli import main as command
        from seppo_image.__main__ import main as run

        inner = command.import_large  # of torch; no earlier, for the command says on how many threads
        command.import_large = lambda name: (inner(name), watch(clock))[0]
        try:
            return run(["train", *argv, "--run", f"{folder}/run"])
        except FirstUpdate:
            pass
    print("\n".join(clock.table()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
