"""`python -m benchmarks corruption`: damages every kind of file, and tells what each command makes of it."""

import argparse
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

DEFAULT = Path("runs/corruption")
REPORT = "report.json"
MADE = (REPORT, "memory", "room", "room-earlier", "other", "other-earlier", "usual", "spoilt")


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status is 0 if nothing was silent but what only `verify` can see, and nothing failed
    unexplained."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks corruption",
        description="Damages each file of a tiny base, cache and run in turn (a bit, with and without its time kept, "
        "half of it, zeros, deleted, an older or another version in its place), gives the commands that read it, and "
        "tells apart equal results, words, refusals, tracebacks and silence.",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT, help="folder to write (default: %(default)s)")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of files, e.g. pool manifest")
    parser.add_argument("--damages", nargs="*", default=[], help="parts of names of damages, e.g. flip delete")
    parser.add_argument("--workers", type=int, default=2, help="commands at a time (default: %(default)s)")
    chosen = parser.parse_args(argv)
    try:
        report = corrupt(chosen.out, chosen.only, chosen.damages, chosen.workers)
    except OSError as error:
        print(f"corruption: {error}", file=sys.stderr)
        return 1
    return 0 if not report["wrong"] else 1


def corrupt(out: Path, only: Iterable[str] = (), damages: Iterable[str] = (), workers: int = 2) -> dict:
    """Runs the campaign, prints a table and returns the content of `out`/report.json.

    FileExistsError if `out` holds what was not made here.
    """
    begin = time.monotonic()
    _clear(out)
    out = out.resolve()
    # before anything is hashed, and before the server takes its environment over
    os.environ["SEPPO_CACHE_HOME"] = str(out / "memory")
    from benchmarks.experiments.corruption import room as rooms
    from benchmarks.experiments.corruption.damages import UNSEEN, commands_for, damages_for, files_of
    from benchmarks.experiments.corruption.outcomes import SILENT, TRACEBACK, Outcome
    from seppo_core.io.atomic import save_json
    from seppo_core.report.provenance import provenance

    commands = rooms.Commands()
    room = out / "room"
    rooms.build(room, commands, seed=0)
    rooms.build(out / "other", commands, seed=1)
    usual = {}
    for command in ("prepare", "verify", "train", "sample", "export", "status"):
        copy = out / "usual" / command
        shutil.copytree(room, copy)
        answer = commands.must(copy, command)
        usual[command] = (answer, rooms.results(copy, command, answer))
    others = {"earlier version": out / "room-earlier", "another's": out / "other"}
    cases = [
        (file, damage, command)
        for file in files_of(room)
        if not only or any(part in file for part in only)
        for damage in damages_for(room, file, others)
        if not damages or any(part in damage.name for part in damages)
        for command in (*commands_for(file), *(["verify"] if damage.name == UNSEEN else []))
    ]
    (out / "spoilt").mkdir()
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(workers) as pool:
        work = [
            pool.submit(_spoil, out / "spoilt" / str(number), room, *case, commands, usual)
            for number, case in enumerate(dict.fromkeys(cases))
        ]
        for done in work:
            outcomes.append(done.result())
            if outcomes[-1].kind in (SILENT, TRACEBACK):
                print("corruption", " | ".join(outcomes[-1]), flush=True)
    shutil.rmtree(out / "spoilt")
    seen = {(one.file, one.damage) for one in outcomes if one.command == "verify" and one.kind not in ("unseen",)}
    listed = [one for one in outcomes if one.kind == SILENT and one.damage == UNSEEN and one[:2] in seen]
    wrong = [one for one in outcomes if one.kind in (SILENT, TRACEBACK) and one not in listed]
    report = {
        "meta": {**provenance(), "seconds": round(time.monotonic() - begin, 1), "processor_seconds": _processor()},
        "tried": len(outcomes),
        "outcomes": Counter(one.kind for one in outcomes),
        "only_verify_sees": [one._asdict() for one in listed],
        "wrong": [one._asdict() for one in wrong],
        "cases": [one._asdict() for one in outcomes],
    }
    save_json(out / REPORT, report)
    print(table(outcomes))
    print(f"\n{len(outcomes)} commands on damaged files: {dict(report['outcomes'])}.")
    print(f"Silent where only `verify` can see it ({UNSEEN}): {len(listed)}; otherwise or unexplained: {len(wrong)}.")
    for one in [*listed, *wrong]:
        print("  ", " | ".join(one))
    print(f"{report['meta']['seconds']:.0f} seconds; all of it in {out / REPORT}")
    return report


def table(outcomes: list) -> str:
    """Markdown: for every kind of file and damage how many commands ended how."""
    from benchmarks.experiments.corruption.outcomes import OUTCOMES

    rows = ["| file | " + " | ".join(OUTCOMES) + " |", "|---" * (len(OUTCOMES) + 1) + "|"]
    for place in dict.fromkeys(_place(one.file) for one in outcomes):
        counts = Counter(one.kind for one in outcomes if _place(one.file) == place)
        rows.append(f"| {place} | " + " | ".join(str(counts[kind] or "") for kind in OUTCOMES) + " |")
    return "\n".join(rows)


def _place(file: str) -> str:
    parts = file.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def _spoil(copy: Path, room: Path, file: str, damage, command: str, commands, usual: dict):
    """One case, in a copy of the room."""
    from benchmarks.experiments.corruption.damages import settle
    from benchmarks.experiments.corruption.outcomes import judge
    from benchmarks.experiments.corruption.room import results

    shutil.copytree(room, copy)
    settle(copy, file)
    damage.apply(copy / file)
    answer = commands.run(copy, command)
    found = results(copy, command, answer) if answer.status == 0 else {}
    shutil.rmtree(copy)
    return judge(file, damage.name, command, answer, found, usual[command])


def _processor() -> float:
    import resource

    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 1)


def _clear(out: Path) -> None:
    """Makes `out` empty, if all that it holds was made here."""
    if out.is_dir():
        foreign = [path.name for path in out.iterdir() if path.name.removesuffix(".log") not in MADE]
        if foreign:
            raise FileExistsError(
                f"{out} holds files that are not of this benchmark ({foreign[0]}); name another --out"
            )
        for path in out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    out.mkdir(parents=True, exist_ok=True)
