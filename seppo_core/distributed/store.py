"""Values that the processes of a launch share without waiting for one another."""

import json
import uuid

from torch import distributed

from seppo_core.distributed.ranks import Ranks, exit_after_peer_failure


class RunStore:
    """Values that all processes of a launch read and write.

    It is the store that their process group met in: in memory, on one machine of the launch. So it ends with the
    launch, and nothing of one that was killed is left to mislead the next; a file system, which may show one process
    late what another wrote, has no part in it. A process alone has a store of its own. A call takes about 0.1 ms.
    """

    def __init__(self, ranks: Ranks, shared: distributed.Store | None = None):
        """Must be called on all processes; every object starts empty. `shared` replaces the process group's store."""
        self._world = ranks.world
        if shared is None:
            run = ranks.run_on_main(lambda: uuid.uuid4().hex)
            group = distributed.HashStore() if ranks.world == 1 else distributed.group.WORLD.get_group_store()
            shared = distributed.PrefixStore(run, group)
        self._store = shared
        self._meeting = 0

    def next_index(self, work: str) -> int:
        """The next piece of `work`, from 0 on: every call, in whatever process, gets another."""
        return self._store.add(f"claim {work}", 1) - 1

    def publish(self, rank: int, content: dict) -> None:
        """Replaces what `rank` has published by `content`, which JSON can hold."""
        self._store.set(f"rank {rank}", json.dumps(content))

    def published(self, rank: int) -> dict | None:
        """The value that `rank` published last; None if it published none."""
        return json.loads(self._store.get(f"rank {rank}")) if self._store.check([f"rank {rank}"]) else None

    def beat(self, rank: int) -> None:
        """Gives a sign of life of `rank`; a thread of its own may call it."""
        self._store.add(f"beat {rank}", 1)

    def beats(self, rank: int) -> int:
        """How many signs of life `rank` has given."""
        return self._store.add(f"beat {rank}", 0)

    def stop(self, signum: int) -> None:
        """Tells all that this process was asked to stop."""
        self._store.set("stop", str(signum))

    def stopped(self) -> int | None:
        """The signal that some process was asked to stop with; None if none was."""
        return int(self._store.get("stop")) if self._store.check(["stop"]) else None

    def fail(self) -> bool:
        """Tells all that this process ends with an error; returns whether it is the first to."""
        return self._store.add("failure", 1) == 1

    def raise_if_failed(self) -> None:
        """Raises SystemExit if another process has failed: waiting for it would be in vain."""
        if self._store.add("failure", 0):
            exit_after_peer_failure()

    def enter_barrier(self) -> None:
        """Enters a barrier without waiting; poll `barrier_complete` afterwards."""
        self._meeting += 1
        self._store.add(f"meeting {self._meeting}", 1)

    def barrier_complete(self) -> bool:
        """Whether all processes have entered the barrier that this one entered last."""
        return self._store.add(f"meeting {self._meeting}", 0) >= self._world
