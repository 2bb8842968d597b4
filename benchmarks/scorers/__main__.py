"""`python -m benchmarks.scorers list` names the image scorers; `doctor` says what they need and what is missing."""

import argparse
import dataclasses
import json
import sys

from benchmarks.scorers.catalogue import SCORERS
from benchmarks.scorers.doctor import diagnose, overview, table

PLACE = "SCORER.PART=PLACE"


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 where something is missing, 2 for a mistake on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scorers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every scorer, its size and licences")
    doctor = commands.add_parser("doctor", help="what is here and what is missing; asks no network")
    doctor.add_argument("scorers", nargs="*", metavar="SCORER", help="default: all")
    doctor.add_argument(
        "--place", action="append", default=[], metavar=PLACE, help="a file, folder or hub id for one part of a scorer"
    )
    doctor.add_argument("--json", action="store_true", help="machine-readable")
    asked = parser.parse_args(argv)
    if asked.command == "list":
        print(overview())
        return 0
    try:
        needs = diagnose(asked.scorers or list(SCORERS), parse_places(asked.place))
    except ValueError as error:
        doctor.error(str(error))
    print(json.dumps([dataclasses.asdict(need) for need in needs], indent=1) if asked.json else table(needs))
    return int(any(need.missing for need in needs))


def parse_places(given: list[str]) -> dict[str, dict[str, str]]:
    """{scorer: {part: place}} from `scorer.part=place`; ValueError for another form or a part that no one reads."""
    places: dict[str, dict[str, str]] = {}
    for item in given:
        name, equals, place = item.partition("=")
        # names of scorers have dots of their own (hps_v2.1)
        column, dot, part = name.rpartition(".")
        if not equals or not dot or not place:
            raise ValueError(f"--place {item!r} should be {PLACE}, e.g. pickscore.weights=/data/PickScore_v1")
        if column not in SCORERS or part not in (parts := [source.part for source in SCORERS[column].sources]):
            known = f"{column} reads {', '.join(parts)}" if column in SCORERS else f"scorers: {', '.join(SCORERS)}"
            raise ValueError(f"--place {item!r} names nothing that is read; {known}")
        places.setdefault(column, {})[part] = place
    return places


if __name__ == "__main__":
    sys.exit(main())
