"""`python -m seppo_core.judging`: `list` the image scorers, ask the `doctor` what is missing, `score` pictures."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from seppo_core.config.messages import first_line
from seppo_core.data.pictures import read_picture
from seppo_core.judging.base import Scorer
from seppo_core.judging.catalogue import SCORERS, load_scorer, parse_locations
from seppo_core.judging.doctor import diagnose, overview, table
from seppo_core.report.wording import counted

PLACE = "SCORER.PART=PLACE"


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 if something is missing or a picture has no score, 2 for a mistake on the command line."""
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
            return score_pictures(asked, places)
        needs = diagnose(asked.scorers or list(SCORERS), places)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        parser.error(str(error))
    print(json.dumps([dataclasses.asdict(need) for need in needs], indent=1) if asked.json else table(needs))
    return int(any(need.missing for need in needs))


def score_pictures(asked: argparse.Namespace, places: dict[str, dict[str, str]]) -> int:
    """Prints one line per picture, score and name, as they come; a note if the prompt's end was not read.

    A batch of pictures is in memory at a time. One that cannot be read or scored is a line on the error stream. Returns
    the exit status: 1 if there was one.
    """
    if not any(path.is_file() for path in asked.pictures):
        raise FileNotFoundError(f"{asked.pictures[0]} is not a file")
    dtype = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[asked.dtype]
    scorer = load_scorer(asked.scorer, places.get(asked.scorer), asked.device, dtype)
    failed = 0
    for start in range(0, len(asked.pictures), scorer.batch_size):
        paths = asked.pictures[start : start + scorer.batch_size]
        for path, found in zip(paths, _scores(scorer, paths, asked.prompt), strict=True):
            if isinstance(found, str):
                failed += 1
                print(f"{path}: {found}", file=sys.stderr)
            else:
                print(f"{found:10.4f}  {path}", flush=True)
    if scorer.truncated([asked.prompt]):
        print(f"{scorer.column} reads {scorer.token_limit} of the prompt's tokens, not its end")
    if failed:
        print(f"no score: {failed} of {counted(len(asked.pictures), 'picture')}", file=sys.stderr)
    return int(failed > 0)


def _scores(scorer: Scorer, paths: Sequence[Path], prompt: str) -> list[float | str]:
    """The score of each picture, or why it has none."""
    found: list[float | str] = [""] * len(paths)
    images = {}
    for place, path in enumerate(paths):
        try:
            images[place] = read_picture(path)
        # decoders raise whatever they like for damage
        except Exception as error:
            found[place] = f"cannot be read: {first_line(error)}"
    try:
        scores = scorer.score(list(images.values()), [prompt] * len(images)).tolist() if images else []
    except ValueError as error:
        if len(images) > 1:
            return [one for path in paths for one in _scores(scorer, [path], prompt)]
        scores = [first_line(error)]
    for place, score in zip(images, scores, strict=True):
        found[place] = score
    return found


if __name__ == "__main__":
    sys.exit(main())
