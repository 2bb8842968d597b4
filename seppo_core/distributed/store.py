"""What the processes of a launch tell each other in passing, while each does its own part."""

import uuid

from torch import distributed

from seppo_core.distributed.ranks import Ranks, exit_after_peer_failure


class RunStore:
    """Numbers that all processes of a run read and write, none waiting for another.

    It is the store that their process group met in: in memory, on one machine of the launch. So it ends with the
    launch, and nothing of one that was killed is left to mislead the next; a file system, which may show one process
    late what another wrote, has no part in it. A process alone has one of its own. A word on it costs about 0.1 ms.
    """

    def __init__(self, ranks: Ranks):
        """To be called on all processes; every board is a clean one."""
        self._world = ranks.world
        run = ranks.run_on_main(lambda: uuid.uuid4().hex)
        shared = distributed.HashStore() if ranks.world == 1 else distributed.group.WORLD.get_group_store()
        self._store = distributed.PrefixStore(run, shared)
        self._meeting = 0

    def claim(self, work: str) -> int:
        """The number of a piece of `work`, from 0 on: every call, in whatever process, gets the next."""
        return self._store.add(f"claim {work}", 1) - 1

    def stop(self, signum: int) -> None:
        """Says that this process was asked to stop."""
        self._store.set("stop", str(signum))

    def stopped(self) -> int | None:
        """The signal that some process was asked to stop with."""
        return int(self._store.get("stop")) if self._store.check(["stop"]) else None

    def fail(self) -> bool:
        """Says that this process ends with an error, and whether it is the first to."""
        return self._store.add("failure", 1) == 1

    def raise_if_failed(self) -> None:
        """SystemExit where another process has failed: to wait for it would be in vain."""
        if self._store.add("failure", 0):
            exit_after_peer_failure()

    def enter_barrier(self) -> None:
        """Says that this process has entered the barrier, without waiting; ask `barrier_complete` afterwards."""
        self._meeting += 1
        self._store.add(f"meeting {self._meeting}", 1)

    def barrier_complete(self) -> bool:
        """Whether all have come to the meeting that this process last arrived at."""
        return self._store.add(f"meeting {self._meeting}", 0) >= self._world
