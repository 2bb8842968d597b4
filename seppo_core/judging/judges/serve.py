"""The loop of a judge that is a process. Standard library only, Python 3.8 or newer: it runs in old environments.

--describe     one line of JSON (name, version, kinds, columns), and nothing is loaded
otherwise      a line of JSON per sample on stdin ({"id", "file", "prompt", "seed", "kind"}), answered by a line on
               stdout: {"id", "scores": {column: number}} or {"id", "error": reason}
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO


def parser(text: str) -> argparse.ArgumentParser:
    """Options that every judge has; a judge adds its own."""
    found = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--describe", action="store_true", help="say what this judge is, as one line of JSON")
    found.add_argument("--device", default="cuda")
    return found


def describe(about: dict, needs: Sequence[str] = ()) -> int:
    """Prints what the judge is. Exit status 1, with a reason, if a file that it needs is missing."""
    missing = [path for path in needs if not os.path.exists(path)]  # noqa: PTH110
    if missing:
        print(f"{about['name']} needs {missing[0]}, which is not there", file=sys.stderr)
        return 1
    print(json.dumps(about), flush=True)
    return 0


def serve(score: Callable[[dict], dict[str, float]]) -> int:
    """Answers each line as it comes, so that a stopped run keeps what it has."""
    answers = _own_output()
    for ask in _asked(sys.stdin):
        try:
            answer = {"id": ask["id"], "scores": score(ask)}
        # one broken file must not end a run of hours
        except Exception as error:
            answer = {"id": ask["id"], "error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def serve_all(score: Callable[[list[dict]], Iterator[tuple[str, dict[str, float] | None, str | None]]]) -> int:
    """Serves a tool that wants all samples at once: `score` yields (id, scores, None) or (id, None, reason)."""
    answers = _own_output()
    for name, scores, reason in score(list(_asked(sys.stdin))):
        answer = {"id": name, "error": reason} if scores is None else {"id": name, "scores": scores}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def _own_output() -> TextIO:
    """The real stdout; whatever libraries print from now on, from C too, goes to stderr and garbles no answer."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def _asked(stream: TextIO) -> Iterator[dict]:
    for line in stream:
        if line.strip():
            yield json.loads(line)
