"""Judges that run as processes of their own: how they are named, what they say of themselves, and their fingerprint."""

import json
import math
import re
import shlex
import shutil
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from seppo_core.io.hashing import sha256_file, sha256_json
from seppo_core.judging.catalogue import SCORERS
from seppo_core.judging.columns import Column, Kind
from seppo_core.judging.external.pipes import printed

NAME = re.compile(r"[A-Za-z][\w.-]{0,39}")
DESCRIBE = "--describe"
DESCRIBE_SECONDS = 180.0
DIGITS_MOST = 12
SCRIPTS = (".py", ".sh", ".yaml", ".yml", ".json", ".toml")
REVISION = 1
"""Raised when a change here changes what is asked of judges."""


@dataclass(frozen=True)
class Plugin:
    """A judge by name, and the command line that runs it."""

    name: str
    command: tuple[str, ...]
    start_seconds: float = 3600.0
    """How long the first answer may take: the model has to load."""
    answer_seconds: float = 600.0
    """How long every further answer may take."""

    def __post_init__(self):
        if not NAME.fullmatch(self.name) or self.name in SCORERS:
            raise ValueError(f"plug-in {self.name!r} needs a name of its own: a letter, then letters, digits, _ . or -")
        if not self.command:
            raise ValueError(f"plug-in {self.name} has no command; give NAME=COMMAND")
        if not (self.start_seconds > 0 and self.answer_seconds > 0):
            raise ValueError(f"plug-in {self.name}: start_seconds and answer_seconds must be above 0")


@dataclass(frozen=True)
class Described:
    """A judge's own description, its answer to `--describe`."""

    about: dict[str, object]
    """Its own words: name, version, kinds, columns, and whatever else its numbers depend on."""
    columns: tuple[Column, ...]
    fingerprint: str


def parse_plugins(given: Iterable[str], file: Path | None = None, taken: Container[str] = ()) -> list[Plugin]:
    """Reads `NAME=COMMAND` items, after the plug-ins of a YAML file.

    Raises ValueError for another form, for a name that is used twice and for a name in `taken`.

    The file maps names to `command` (a line or a list), `start_seconds` and `answer_seconds`.
    """
    plugins = [] if file is None else _from_file(file)
    for item in given:
        name, equals, command = item.partition("=")
        if not equals:
            raise ValueError(f"--plugin {item!r} should be NAME=COMMAND")
        plugins.append(Plugin(name.strip(), tuple(shlex.split(command))))
    names = [plugin.name for plugin in plugins]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"plug-in {twice[0]!r} is named twice")
    if found := [name for name in names if name in taken]:
        raise ValueError(f"plug-in {found[0]!r} has the name of a metric; give it another name")
    return plugins


def _from_file(path: Path) -> list[Plugin]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} should map names of plug-ins to their command")
    plugins = []
    for name, entry in content.items():
        entry = {"command": entry} if isinstance(entry, (str, list)) else entry
        known = {"command", "start_seconds", "answer_seconds"}
        if not isinstance(entry, dict) or "command" not in entry or (set(entry) - known):
            raise ValueError(f"{path}: plug-in {name!r} takes {', '.join(sorted(known))}, command is required")
        command = entry.pop("command")
        parts = shlex.split(command) if isinstance(command, str) else [str(part) for part in command]
        plugins.append(Plugin(str(name), tuple(parts), **{key: float(value) for key, value in entry.items()}))
    return plugins


def describe(plugin: Plugin, kind: Kind) -> Described:
    """Asks the judge what it is; it loads nothing for that. FileNotFoundError with its own words if it cannot run.

    ValueError if the answer is none, or the judge does not judge this kind of sample.
    """
    if shutil.which(plugin.command[0]) is None:
        raise FileNotFoundError(f"plug-in {plugin.name}: {plugin.command[0]} is not a program here")
    try:
        done = printed([*plugin.command, DESCRIBE], DESCRIBE_SECONDS)
    except TimeoutError as error:
        raise FileNotFoundError(f"plug-in {plugin.name} does not answer {DESCRIBE}: {error}") from error
    if done.status:
        raise FileNotFoundError(f"plug-in {plugin.name} cannot run: {last_words(done.errors) or done.status}")
    about = _description(plugin, done.output)
    if kind not in about["kinds"]:
        raise ValueError(f"plug-in {plugin.name} judges {', '.join(about['kinds'])}, not {kind}")
    return Described(about, columns_of_plugin(plugin.name, about), _fingerprint(plugin, about))


def _description(plugin: Plugin, output: str) -> dict:
    """The last line of JSON; what a library printed before it does not matter."""
    for line in reversed(output.splitlines()):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(found, dict) or not isinstance(found.get("name"), str):
            continue
        columns, kinds = found.get("columns"), found.get("kinds")
        known = isinstance(kinds, list) and all(kind in ("image", "video") for kind in kinds)
        if isinstance(columns, dict) and columns and known:
            if bad := [name for name in columns if not re.fullmatch(r"\w+", name)]:
                raise ValueError(f"plug-in {plugin.name}: column {bad[0]!r} should be letters, digits and _")
            for column, facts in columns.items():
                _check_facts(plugin, column, facts if isinstance(facts, dict) else {})
            return found
    raise ValueError(
        f"plug-in {plugin.name}: {DESCRIBE} should print one line of JSON with name, kinds (image, video) and columns"
    )


def _check_facts(plugin: Plugin, column: str, facts: dict) -> None:
    for fact, default in (("better", 1), ("scale", 1), ("digits", 3)):
        value = facts.get(fact, default)
        if not is_finite(value) or (fact == "digits" and value not in range(DIGITS_MOST + 1)):
            wanted = f"0 to {DIGITS_MOST}" if fact == "digits" else "a finite number"
            raise ValueError(
                f"plug-in {plugin.name}: {fact} of column {column} is {str(value)[:40]}, it should be {wanted}"
            )


def is_finite(value: object) -> bool:
    """Whether a value of JSON is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def columns_of_plugin(name: str, about: dict) -> tuple[Column, ...]:
    """The columns it fills: NAME_column each, or NAME if there is but one, called score."""
    found = []
    for column, facts in about["columns"].items():
        facts = facts if isinstance(facts, dict) else {}
        title = name if column == "score" else f"{name}_{column}"
        better = -1 if facts.get("better", 1) < 0 else 1
        what = str(facts.get("what", about["name"]))
        found.append(
            Column(title, name, "plugin", what, better, float(facts.get("scale", 1)), int(facts.get("digits", 3)))
        )
    return tuple(found)


def last_words(text: str, length: int = 300) -> str:
    """The last line of an error output that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:length] if lines else ""


def _fingerprint(plugin: Plugin, about: dict) -> str:
    """Hash of the judge's description, script and options. The interpreter's path does not count."""
    content = {"plugin": plugin.name, "revision": REVISION, "about": about, "command": _portable(plugin.command[1:])}
    return sha256_json(content)


def _portable(arguments: Sequence[str]) -> list[str]:
    """Scripts and settings by their content, `-m` modules of the working folder too; the rest as it stands."""
    found = []
    for before, argument in zip([None, *arguments], arguments, strict=False):
        path = Path(*argument.split(".")).with_suffix(".py") if before == "-m" else Path(argument)
        if path.suffix in SCRIPTS and path.is_file():
            found.append(f"sha256:{sha256_file(path)}")
        else:
            found.append(argument)
    return found
