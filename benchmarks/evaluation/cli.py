"""`python -m benchmarks quality [run|report|doctor] PROTOCOL`: scores models under a named protocol."""

import argparse
import sys
from pathlib import Path

from benchmarks.evaluation.arguments import ROOT, Mistake, changes, check, parser
from benchmarks.evaluation.protocols import PROTOCOLS, Protocol, protocol_named, with_changes

COMMANDS = ("run", "report", "doctor")
SMOKE = ("smoke-image", "smoke-video")


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 1 if something is missing or fails, 2 for a mistake on the command line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments.pop(0) if arguments and arguments[0] in COMMANDS else "run"
    options = parser(command)
    asked = options.parse_args(arguments)
    name = asked.protocol or asked.named
    if name is None:
        options.error(f"name a protocol: smoke, {', '.join(PROTOCOLS)}")
    try:
        for one in SMOKE if name == "smoke" else (name,):
            status = _command(command, _protocol(one, asked), asked, name)
            if status:
                return status
    except Mistake as error:
        print(f"quality: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError, ModuleNotFoundError, RuntimeError) as error:
        print(f"quality: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("quality: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _protocol(name: str, asked: argparse.Namespace) -> Protocol:
    try:
        return with_changes(protocol_named(name), changes(asked))
    except ValueError as error:
        raise Mistake(str(error)) from error


def _command(command: str, protocol: Protocol, asked: argparse.Namespace, name: str) -> int:
    out, cache = _places(protocol, asked, name)
    check(asked, protocol, out, command)
    # imported late: a mistake in the call should be told before torch loads
    from benchmarks.evaluation.assemble import assemble, prompt_line, prompts_of

    prompts = None if command == "report" else prompts_of(protocol, asked, command == "doctor")

    from benchmarks.evaluation.folder import PlanFolder
    from benchmarks.evaluation.report.files import write_report
    from benchmarks.evaluation.run import diagnose, run

    if prompts is not None:
        evaluation = assemble(protocol, asked, prompts, out, cache, command == "doctor")
        if command == "doctor":
            found, missing = diagnose(evaluation)
            print(f"# {protocol.name}: {protocol.what}\n\n{prompt_line(evaluation.prompts)}\n\n{found}")
            fine = f"Nothing is missing. next: python -m benchmarks quality run {name} with the same options"
            print("\n" + (fine if not missing else "Missing:\n  " + "\n  ".join(missing)))
            return int(bool(missing))
        run(evaluation)
        if asked.shard is not None:
            print(f"shard {asked.shard} is done; when all are: python -m benchmarks quality report {name} --out {out}")
            return 0
    report = write_report(PlanFolder(out, cache), asked.baseline, asked.set_resamples)
    print(f"\n{(out / 'table.md').read_text(encoding='utf-8')}")
    print(f"report.json, table.md, table.tex, scores.csv and index.html are in {out}")
    print(f"next: look at {out / 'index.html'}, or let people judge two models: python -m benchmarks ab make {out}")
    return 1 if any("mean" not in row for row in report["scores"]) else 0


def _places(protocol: Protocol, asked: argparse.Namespace, name: str) -> tuple[Path, Path]:
    slug = protocol.name if len(protocol.sets) == 1 else f"{protocol.name}-{asked.set or protocol.sets[0]}"
    out = asked.out or ROOT / slug
    if asked.out is not None and name == "smoke":
        out = asked.out / protocol.kind
    return out, asked.cache or (ROOT if asked.out is None else asked.out) / "cache"
