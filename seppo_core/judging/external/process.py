"""Asks a judge that is a process: a line of JSON per sample in, a line of JSON per sample out, whatever happens.

A judge that dies, hangs, mumbles without end or answers nonsense costs the sample it was at, never the others and
never the run. What it prints is read in bounded memory.
"""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from seppo_core.judging.columns import Score
from seppo_core.judging.external.pipes import Drain, end, log_of
from seppo_core.judging.external.spec import Plugin, is_finite, last_words

GIVE_UP_AFTER = 3
"""Samples that fail alone, before any was ever answered: then it is the judge, not the samples."""
LINE_MOST = 1_000_000
"""Characters of a line; a longer one is read in pieces, of which none is an answer."""
LINES_AHEAD = 1000
REASON = 300


class Ask(NamedTuple):
    """One line for the judge."""

    id: str
    file: Path
    prompt: str
    seed: int
    kind: str

    def line(self) -> str:
        content = {
            "id": self.id, "file": str(self.file), "prompt": self.prompt, "seed": self.seed, "kind": self.kind,
        }  # fmt: skip
        return json.dumps(content, ensure_ascii=False) + "\n"


class JudgeStopped(RuntimeError):
    """The process ended before all was answered, or had to be ended; the message says why."""


def judge_all(
    plugin: Plugin, asks: Sequence[Ask], columns: Mapping[str, str], log: Path, add: Callable[[str, Score], None]
) -> None:
    """Has every one of `asks` judged, or written down with the reason why not; `add(id, score)` as answers come.

    `columns` gives the name in our tables of each column of the judge. After a crash or a silence the first sample
    without an answer is tried alone in a new process; if nothing was answered, the halves are. Raises RuntimeError
    if the judge answers nothing at all.
    """
    session = _Session(plugin, log)
    groups = [list(asks)] if asks else []
    alone = 0
    while groups:
        group = groups.pop()
        left = {ask.id: ask for ask in group}
        stopped: JudgeStopped | None = None
        try:
            for line in session.answers(group):
                answer = read_answer(line, columns)
                if answer is not None and answer[0] in left:
                    del left[answer[0]]
                    add(*answer)
                    session.heard()
        except JudgeStopped as error:
            stopped = error
        rest = list(left.values())
        if not rest:
            continue
        if stopped is None:
            for ask in rest:
                add(ask.id, Score({}, "the judge ended without a line for it"))
        elif len(group) == 1:
            add(group[0].id, Score({}, _reason(str(stopped))))
            alone += 1
            if alone >= GIVE_UP_AFTER and not session.ever:
                raise RuntimeError(f"plug-in {plugin.name} answers nothing: {stopped}; its words are in {log}")
        elif len(rest) < len(group):
            groups += [part for part in (rest[1:], rest[:1]) if part]
        else:
            half = (len(rest) + 1) // 2
            groups += [rest[half:], rest[:half]]


class _Session:
    """Runs the command again and again, and remembers how long its model took to load."""

    def __init__(self, plugin: Plugin, log: Path):
        self.plugin, self.log = plugin, log
        self.ever = False
        self._start = plugin.start_seconds
        self._first: float | None = None
        self._last = 0.0

    def heard(self) -> None:
        """An answer came: the silence counts from now."""
        now = time.monotonic()
        if self._first is not None:
            # a process that is started again should not be granted an hour where the first took a minute
            self._start = min(self._start, 2 * (now - self._first) + self.plugin.answer_seconds)
            self._first = None
        self.ever, self._last = True, now

    def answers(self, asks: Sequence[Ask]) -> Iterator[str]:
        """Every line that the judge prints. JudgeStopped if it fails or falls silent."""
        with log_of(self.log) as log:
            process = subprocess.Popen(
                self.plugin.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
            lines: queue.Queue[str | None] = queue.Queue(LINES_AHEAD)
            over = threading.Event()
            feed = threading.Thread(target=_feed, args=(process, asks), daemon=True)
            listen = threading.Thread(target=_listen, args=(process, lines, over), daemon=True)
            errors = Drain(process.stderr, log)
            self._first = self._last = time.monotonic()
            for thread in (feed, listen, errors):
                thread.start()
            try:
                yield from self._heard_until_end(lines)
                status = process.wait(timeout=self.plugin.answer_seconds)
            except subprocess.TimeoutExpired as error:
                raise JudgeStopped("the judge closed its output and did not end") from error
            finally:
                over.set()
                end(process, listen, errors, feed)
        if status:
            raise JudgeStopped(f"the judge ended with {_ending(status)}: {last_words(errors.text) or 'no words'}")

    def _heard_until_end(self, lines: "queue.Queue[str | None]") -> Iterator[str]:
        late = 0
        while True:
            limit = self._start if self._first is not None else self.plugin.answer_seconds
            wait = limit - (time.monotonic() - self._last)
            # answers that lie there already are taken; chatter is no answer, however much of it comes
            late = late + 1 if wait <= 0 else 0
            try:
                if late > LINES_AHEAD:
                    raise queue.Empty
                line = lines.get(timeout=max(0.0, wait))
            except queue.Empty:
                raise JudgeStopped(f"no answer in {limit:.0f} s") from None
            if line is None:
                return
            yield line


def read_answer(line: str, columns: Mapping[str, str]) -> tuple[str, Score] | None:
    """The sample's id and its score or reason; None for a line that is not an answer, e.g. a library's own print."""
    try:
        found = json.loads(line)
    # not JSON, a number of more digits than Python reads, or nested too deeply
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        return None
    if found.get("error") is not None:
        return found["id"], Score({}, _reason(str(found["error"])) or "error without words")
    scores = found.get("scores")
    if not isinstance(scores, dict):
        return found["id"], Score({}, "the judge's line has neither scores nor error")
    if complaint := _complaint(scores, columns):
        return found["id"], Score({}, _reason(complaint))
    return found["id"], Score({title: float(scores[name]) for name, title in columns.items()})


def _reason(text: str) -> str:
    """One line that any file can hold."""
    return " ".join(text.split())[:REASON].encode("utf-8", "replace").decode()


def _complaint(scores: dict, columns: Mapping[str, str]) -> str | None:
    if absent := sorted(columns.keys() - scores.keys()):
        return f"the judge gave no {absent[0]}"
    if unknown := sorted(scores.keys() - columns.keys()):
        return f"the judge gave {unknown[0]}, which it does not describe"
    for name, value in scores.items():
        if not is_finite(value):
            return f"{name} is {str(value)[:40]}, no finite number"
    return None


def _feed(process: subprocess.Popen, asks: Sequence[Ask]) -> None:
    try:
        with process.stdin:
            for ask in asks:
                process.stdin.write(ask.line().encode())
                process.stdin.flush()
    except (BrokenPipeError, ValueError):
        # it died, or was ended; the reader says so
        pass


def _listen(process: subprocess.Popen, lines: "queue.Queue[str | None]", over: threading.Event) -> None:
    with process.stdout:
        while piece := process.stdout.readline(LINE_MOST):
            _put(lines, piece.decode("utf-8", "replace"), over)
            if over.is_set():
                return
    _put(lines, None, over)


def _put(lines: "queue.Queue[str | None]", line: str | None, over: threading.Event) -> None:
    """Waits for a place as long as anybody listens."""
    while not over.is_set():
        try:
            lines.put(line, timeout=0.2)
        except queue.Full:
            continue
        return


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
