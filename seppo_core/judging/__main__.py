"""`python -m seppo_core.judging`: `list` the image scorers, ask the `doctor` what is missing, `score` pictures."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import torch
from PIL import Image

from seppo_core.judging.catalogue import SCORERS, load_scorer, parse_locations
from seppo_core.judging.doctor import diagnose, overview, table

PLACE = "SCORER.PART=PLACE"


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 if something is missing, 2 for a mistake on the command line."""
    parser = argparse.ArgumentParser(prog="python -m seppo_core.judging", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every scorer, its size and licences")
    doctor = commands.add_parser("doctor", help="what is here and what is missing; asks no network")
    doctor.add_argument("scorers", nargs="*", metavar="SCORER", help="default: all")
    score = commands.add_parser("score", help="pictures against one prompt; one line each")
    score.add_argument("scorer", metavar="SCORER")
    score.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    score.add_argument("--prompt", required=True)
    score.add_argument("--device", default="cpu")
    score.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    for command in (doctor, score):
        command.add_argument(
            "--place", action="append", default=[], metavar=PLACE, help="a file, folder or hub id for a scorer's part"
        )
    doctor.add_argument("--json", action="store_true", help="machine-readable")
    asked = parser.parse_args(argv)
    if asked.command == "list":
        print(overview())
        return 0
    try:
        places = parse_locations(asked.place, "--place", SCORERS)
        if asked.command == "score":
            print(score_pictures(asked, places))
            return 0
        needs = diagnose(asked.scorers or list(SCORERS), places)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        parser.error(str(error))
    print(json.dumps([dataclasses.asdict(need) for need in needs], indent=1) if asked.json else table(needs))
    return int(any(need.missing for need in needs))


def score_pictures(asked: argparse.Namespace, places: dict[str, dict[str, str]]) -> str:
    """One line per picture: score and name; a note if the prompt's end was not read."""
    if missing := [path for path in asked.pictures if not path.is_file()]:
        raise FileNotFoundError(f"{missing[0]} is not a file")
    dtype = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[asked.dtype]
    scorer = load_scorer(asked.scorer, places.get(asked.scorer), asked.device, dtype)
    images = [Image.open(path) for path in asked.pictures]
    scores = scorer.score(images, [asked.prompt] * len(images))
    lines = [f"{score:10.4f}  {path}" for score, path in zip(scores.tolist(), asked.pictures, strict=True)]
    if scorer.truncated([asked.prompt]):
        lines.append(f"{scorer.column} reads {scorer.token_limit} of the prompt's tokens, not its end")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
