"""Runs an old commit and this checkout on one machine and compares what they compute, to the last bit.

    python tools/gauge.py                          # the old commit in a worktree of its own
    python tools/gauge.py --old-tree ../old        # the old commit in a worktree that exists
    python tools/gauge.py --only image_seppo cache # some of the cases; --list names them

Both sides are called through their commands (`prepare`, `train`, `export`), with option names of the old commit, on the
same data and at the same absolute paths. No number is stored: the old commit computes it anew. Exit status 1 if
anything differs. See tools/README.md.
"""

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# one thread each: sums in another order would differ, and forked processes must inherit no thread pool
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true", "TQDM_DISABLE": "1"}
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from gauge_cases import CASES
from gauge_compare import Difference, first_difference
from gauge_side import CommandFailed, Side, write_data

HERE = Path(__file__).resolve().parent.parent
OLD_COMMIT = "3a408de"
"""The first that has the bases which both sides train from; 702bb85 was compared with the checkout until then."""


def main() -> int:
    """Runs the chosen cases on both sides, prints the table, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--old", default=OLD_COMMIT, metavar="COMMIT", help="old commit (default: %(default)s)")
    parser.add_argument("--old-tree", type=Path, help="existing worktree of the old commit, used as it is")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help="cases to run (default: all)")
    parser.add_argument("--list", action="store_true", help="print the cases and leave")
    parser.add_argument("--keep", type=Path, help="empty folder for runs, caches and logs (default: a temporary one)")
    arguments = parser.parse_args()
    if arguments.list:
        for name, case in CASES.items():
            print(f"{name:16} {case.__doc__}")
        return 0
    with contextlib.ExitStack() as stack:
        work = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gauge-")))
        work.mkdir(parents=True, exist_ok=True)
        if any(work.iterdir()):
            parser.error(f"--keep={work} is not empty; name another folder")
        tree = arguments.old_tree
        if tree is None:
            tree = work / "old-tree"
            _git("worktree", "add", "--detach", str(tree.resolve()), arguments.old)
            stack.callback(_git, "worktree", "remove", "--force", str(tree.resolve()))
        return run(tree.resolve(), work.resolve(), arguments.only or list(CASES))


def run(old_tree: Path, work: Path, names: list[str]) -> int:
    """Runs the cases `names` on the old tree, then on this one; 1 if anything differs."""
    begun = time.monotonic()
    write_data(work / "data")
    facts: dict[str, dict[str, dict]] = {}
    for label, tree in (("old", old_tree), ("new", HERE)):
        # both sides work at the same path, because paths are part of a run's config
        side = Side(label, tree, work)
        facts[label] = {}
        for name in names:
            start = time.monotonic()
            try:
                facts[label][name] = CASES[name](side)
                outcome = "done"
            except (CommandFailed, OSError, LookupError, ValueError) as error:
                facts[label][name] = {"failed": f"{type(error).__name__}: {error}"}
                outcome = f"FAILED: {error}"
            print(f"{time.monotonic() - begun:6.1f} s  {label} {name}: {time.monotonic() - start:.1f} s, {outcome}")
            sys.stdout.flush()
        side.put_away()
    unequal = 0
    print(f"\n{'case':16} {'equal':6} compared")
    for name in names:
        old, new = facts["old"][name], facts["new"][name]
        found = first_difference(old, new)
        if found is None and "failed" in old:
            found = Difference("failed", old["failed"], new["failed"])
        unequal += found is not None
        print(f"{name:16} {'yes' if found is None else 'NO':6} {', '.join(old)}")
        if found is not None:
            print(f"{'':16} first difference at {found.key}\n{'':16}   old: {found.old}\n{'':16}   new: {found.new}")
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(used.ru_utime + used.ru_stime for used in usage)
    spent = f"{time.monotonic() - begun:.0f} s, {processor:.0f} processor seconds"
    print(f"\n{len(names) - unequal} of {len(names)} cases are equal; {spent}")
    return 1 if unequal else 0


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(HERE), *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
