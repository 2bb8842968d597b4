"""`python -m benchmarks ab make REPORT` and `python -m benchmarks ab count KEY VOTES.csv …`."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from seppo_core.report.text_table import markdown_table
from seppo_core.report.wording import counted

LARGE = 250_000_000
"""Bytes of a page from which on people are warned: Chromium holds at most 512 MB of text in one piece."""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 1 if something fails, 2 for a mistake on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ab", description="A blind comparison by people.")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write the page for judges and the key that stays with you")
    make.add_argument("report", type=Path, help="folder of a `quality run`")
    make.add_argument("--cache", type=Path, help="its folder of samples (default: cache in the folder or beside it)")
    make.add_argument("--models", nargs="+", metavar="NAME", help="default: all; every two of them are compared")
    make.add_argument("--pairs", type=int, default=40, help="per two models (default: %(default)s)")
    make.add_argument("--out", type=Path, help="folder to write ab.html and ab-key.json into (default: REPORT/ab)")
    make.add_argument("--secret", type=int, help="decides prompts and sides (default: drawn anew)")
    make.add_argument("--title", default="Blind comparison")
    make.add_argument("--question", default="Which of the two is better?")
    make.add_argument("--largest", type=int, default=512, help="pixels of a side shown at most (default: %(default)s)")
    count = commands.add_parser("count", help="win rates with intervals")
    count.add_argument("key", type=Path, help="ab-key.json")
    count.add_argument("votes", nargs="+", type=Path, metavar="VOTES.csv")
    count.add_argument("--json", action="store_true", help="machine-readable")
    asked = parser.parse_args(list(sys.argv[1:] if argv is None else argv))
    try:
        return _make(asked) if asked.command == "make" else _count(asked)
    except (ValueError, OSError) as error:
        print(f"ab: {error}", file=sys.stderr)
        return 1


def _make(asked: argparse.Namespace) -> int:
    import secrets

    from benchmarks.evaluation.folder import PlanFolder
    from benchmarks.evaluation.human.page import ab_page
    from benchmarks.evaluation.human.pairs import draw_pairs
    from benchmarks.evaluation.results import model_samples
    from seppo_core.io.atomic import save_text

    if asked.pairs < 1:
        raise ValueError(f"--pairs {asked.pairs} compares nothing; give at least 1")
    out = asked.out or asked.report / "ab"
    if asked.secret is None:
        _keep_key(out / "ab-key.json")
    folder = PlanFolder(asked.report, asked.cache or _cache_of(asked.report))
    plan = folder.load()
    names = asked.models or [model.name for model in plan.models]
    if unknown := sorted(set(names) - {model.name for model in plan.models}):
        raise ValueError(f"--models {unknown[0]!r} is not in {asked.report}; it has "
                         f"{', '.join(model.name for model in plan.models)}")  # fmt: skip
    models = [model_samples(folder, plan, entry) for entry in plan.models if entry.name in names]
    stores = {model.entry.name: folder.samples(model.entry) for model in models}
    secret = secrets.randbits(48) if asked.secret is None else asked.secret
    study = draw_pairs(models, plan.prompts.prompts, plan.protocol.seeds, plan.label, asked.pairs, secret)
    prompts = {prompt.id: prompt for prompt in plan.prompts.prompts}

    def read(model: str, pair):
        record = stores[model].find(prompts[pair.prompt_id], pair.seed)
        if record is None:
            raise FileNotFoundError(f"the sample of {model} for {pair.prompt_id} vanished; run `quality run` again")
        return stores[model].read(record)

    _keep_key(out / "ab-key.json", study)
    save_text(out / "ab.html", ab_page(study, read, asked.title, asked.question, asked.largest))
    study.save(out / "ab-key.json")
    if (size := (out / "ab.html").stat().st_size) > LARGE:
        print(f"warning: {out / 'ab.html'} has {size / 1e6:.0f} MB, which browsers may refuse; a smaller --largest or "
              "fewer --pairs make it smaller", file=sys.stderr)  # fmt: skip
    left_out = f", {study.identical} pairs of equal samples left out" if study.identical else ""
    print(f"{len(study.pairs)} pairs of {len(models)} models{left_out}")
    print(f"give judges {out / 'ab.html'}, keep {out / 'ab-key.json'}; then: python -m benchmarks ab count "
          f"{out / 'ab-key.json'} votes-*.csv")  # fmt: skip
    return 0


def _keep_key(path: Path, study=None) -> None:
    """ValueError if another study's key is at `path`: nobody could count its votes any more."""
    from benchmarks.evaluation.human.pairs import Study

    if path.is_file() and (study is None or Study.load(path) != study):
        raise ValueError(
            f"{path} is the key of an earlier page, without which its votes cannot be counted; give another --out, "
            "or move it away"
        )


def _cache_of(report: Path) -> Path:
    places = [report / "cache", report.parent / "cache"]
    found = next((place for place in places if (place / "samples").is_dir()), None)
    if found is None:
        raise FileNotFoundError(f"no folder of samples at {places[0]} or {places[1]}; name it with --cache")
    return found


def _count(asked: argparse.Namespace) -> int:
    from benchmarks.evaluation.human.pairs import Study
    from benchmarks.evaluation.human.votes import count_votes, read_votes

    study = Study.load(asked.key)
    votes, rejected = read_votes(asked.votes, study)
    for line in rejected:
        print(f"warning: {line}", file=sys.stderr)
    if not votes:
        raise ValueError("no vote could be counted")
    count = count_votes(study, votes, rejected)
    if asked.json:
        comparisons = [asdict(c) | {"win_rate": list(c.win_rate)} for c in count.comparisons]
        content = {"study": study.id, "label": study.label, "comparisons": comparisons, "judges": count.judges,
                   "left": None if count.left is None else list(count.left), "rejected": rejected}  # fmt: skip
        print(json.dumps(content, ensure_ascii=False, indent=1))
    else:
        print(table(count))
    return 0


def table(count) -> str:
    """Markdown: one row per two models, and what to know about the votes."""
    headings = ["comparison", "preferred", "wins / same / losses", "pairs", "judges", "p", "agreement"]
    rows = []
    for c in count.comparisons:
        value, low, high = (f"{100 * part:.1f}" for part in c.win_rate)
        p = "–" if c.p is None else f"{c.p:.4f}"
        agreement = "–" if c.agreement is None else f"{100 * c.agreement:.0f} %"
        names = "".join(f"\\{x}" if x in "|`<>*" else x for x in f"{c.first} over {c.second}")
        won = f"{c.wins} / {c.ties} / {c.losses}"
        rows.append([names, f"{value} % [{low}, {high}]", won, str(c.pairs), str(c.judges), p, agreement])
    votes, judges = sum(count.judges.values()), len(count.judges)
    lines = [*markdown_table(headings, rows), ""]
    lines.append(
        f"{counted(votes, 'vote')} of {counted(judges, 'judge')} on {count.study.label}; 95 % intervals, "
        "ties count half; p by sign flips over pairs."
    )
    if count.left is not None:
        value, low, high = (f"{100 * part:.0f}" for part in count.left)
        lines.append(f"The left side was chosen in {value} % of the votes for a side [{low}, {high}].")
    if count.study.identical:
        lines.append(f"{count.study.identical} pairs had equal samples and were not shown.")
    if count.rejected:
        lines.append(f"{counted(len(count.rejected), 'line needs', 'lines need')} a look: {count.rejected[0]}.")
    return "\n".join(lines)
