"""`status RUN` and `doctor`: the commands that look and change nothing. They take no config."""

from dataclasses import dataclass
from pathlib import Path

LOOKS = {
    "status": "how far a run is, how healthy, and when it ends: from its folder alone",
    "doctor": "versions, devices and what is missing: what an issue report asks for",
}
USAGE = {"status": "status RUN", "doctor": "doctor"}


@dataclass(frozen=True)
class Look:
    """What a command line asks for; `run` is the folder that status looks into."""

    command: str
    run: Path | None = None


def parse_look(command: str, rest: list[str], program: str) -> Look | None:
    """None where help was asked for, which is printed; ValueError for what does not fit."""
    if "-h" in rest or "--help" in rest:
        print(f"usage: {program} {USAGE[command]}\n\n{LOOKS[command].capitalize()}.")
        return None
    wanted = 1 if command == "status" else 0
    if len(rest) != wanted or any(word.startswith("-") for word in rest):
        raise ValueError(
            f"{command} takes {'one run folder' if wanted else 'nothing'}, not {' '.join(rest) or 'nothing'}: "
            f"{program} {USAGE[command]}"
        )
    return Look(command, Path(rest[0]) if wanted else None)


def look(asked: Look) -> int:
    """Prints what was asked for; the exit status, 1 where the doctor finds something that must be mended."""
    if asked.command == "status":
        from seppo_core.run.status import read_status, status_text

        print(status_text(read_status(_run_folder(asked.run))))
        return 0
    from seppo_core.cli.doctor import diagnose, healthy, report

    sections = diagnose(Path.cwd())
    print(report(sections))
    return 0 if healthy(sections) else 1


def _run_folder(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; name the folder of a run, `run` in its config")
    if path.is_file():
        raise ValueError(f"{path} is a file; status takes the folder of a run, `run` in a config")
    return path
