"""`PROGRAM COMMAND CONFIG.yaml [--section.key value ...]`: parses and checks it all, then imports what does the work.

Whatever a user can get wrong there is refused in one line, before torch is imported.
"""

import contextlib
import importlib
import io
import re
import sys
from dataclasses import dataclass, make_dataclass
from importlib.metadata import version
from pathlib import Path
from signal import SIGINT
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from seppo_core.cli.cli_errors import one_line, raised_by_us
from seppo_core.cli.looking import LOOKS, Look, look, parse_look
from seppo_core.config.config_checks import check_form
from seppo_core.config.loader import (
    MISSING,
    Values,
    describe,
    key_types,
    merged_values,
    missing_keys,
    nearest,
    read_values,
    refuse_missing,
    similar_path,
)
from seppo_core.config.options import (
    ExportRequest,
    PlanRequest,
    PrepareRequest,
    SampleRequest,
    TrainRequest,
    VerifyRequest,
    check_export,
    check_train,
)
from seppo_core.config.schema import Config
from seppo_core.data.discover import find_source
from seppo_core.distributed.signals import Stopped, raising

COMMANDS = {
    "plan": "say what a run would take, in memory, work, disk and hours; needs no weights and no network",
    "prepare": "encode the winners of data.source once, into data.cache",
    "verify": "read all of data.cache again and name what is damaged",
    "train": "align the model; the same command continues a stopped run",
    "sample": "draw from the aligned model, or from the base",
    "export": "write what plain diffusers loads",
}
REQUESTS = {
    "plan": PlanRequest,
    "prepare": PrepareRequest,
    "verify": VerifyRequest,
    "train": TrainRequest,
    "sample": SampleRequest,
    "export": ExportRequest,
}


@dataclass(frozen=True)
class Invocation:
    """What a command line asks for, parsed and checked."""

    command: str
    config: Config
    request: PrepareRequest | VerifyRequest | TrainRequest | SampleRequest | ExportRequest | None


def run(argv: list[str], program: str, schema: type[Config], commands_module: str) -> int:
    """Runs one command of `commands_module`, which is imported only after all else is checked; the exit status.

    A mistake of the user, or a disk that refuses, is one line on stderr and status 2; SIGTERM gives 143, SIGINT 130.
    Errors that other libraries raise keep their traceback, as do all with SEPPO_TRACEBACK=1.
    """
    try:
        with raising():
            invocation = parse(argv, program, schema)
            if invocation is None:
                return 0
            if isinstance(invocation, Look):
                return look(invocation)
            check_paths(invocation)
            dispatch(invocation, importlib.import_module(commands_module))
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        text = one_line(error)
        if text is None:
            raise
        print(f"{program}: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        stopped = stop if isinstance(stop, Stopped) else Stopped(SIGINT)
        print(f"{program}: {stopped}; the same command goes on from where it was saved", file=sys.stderr)
        return stopped.status
    return 0


def dispatch(invocation: Invocation, commands: Any) -> None:
    """Calls `commands.plan`, `.prepare`, `.verify`, `.train`, `.sample` or `.export` with (config, request)."""
    if invocation.command == "plan":
        commands.plan(invocation.config, invocation.request)
    elif invocation.command == "prepare":
        commands.prepare(invocation.config, invocation.request)
    elif invocation.command == "verify":
        commands.verify(invocation.config, invocation.request)
    elif invocation.command == "train":
        commands.train(invocation.config, invocation.request)
    elif invocation.command == "sample":
        commands.sample(invocation.config, invocation.request)
    else:
        commands.export(invocation.config, invocation.request)


def parse(argv: list[str], program: str, schema: type[Config]) -> Invocation | Look | None:
    """What `argv` asks for, or None where it asked for help, which is printed. Reads the config file, no other.

    Raises ValueError or FileNotFoundError for what does not fit, in one line.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage(program))
        return None
    if argv[0] == "--version":
        print(f"{program} {version('seppo')}")
        return None
    command, *rest = argv
    if command in LOOKS:
        return parse_look(command, rest, program)
    if command not in COMMANDS:
        guess = nearest(command, [*COMMANDS, *LOOKS])
        hint = f"did you mean {guess}?" if guess else f"use {', '.join([*COMMANDS, *LOOKS])}"
        raise ValueError(f"{command} is not a command; {hint}")
    wants_help = "-h" in rest or "--help" in rest
    path, options = (rest[0], rest[1:]) if rest and not rest[0].startswith("-") else (None, rest)
    if path is None and not wants_help:
        raise ValueError(f"{command} needs a config file: {program} {command} CONFIG.yaml; see the folder configs")
    source = "command line" if path is None else path
    values = merged_values(schema, {}, source) if path is None else read_values(path, schema)
    invocation_type = _invocation_type(command, schema)
    options = _checked_options(options, command, invocation_type)
    if not wants_help:
        given = {option.removeprefix("--") for option in options}
        refuse_missing(source, [key for key in missing_keys(values) if key not in given])
    parsed = _tyro(
        invocation_type,
        default=_unchecked(invocation_type, {"config": _unchecked(schema, values)} | _request_defaults(command)),
        prog=f"{program} {command} {path or 'CONFIG.yaml'}",
        description=f"{COMMANDS[command].capitalize()}.\n\n{_origin_of_values(path)}",
        args=["--help"] if wants_help else options,
        source=source,
    )
    if parsed is None:
        return None
    config, request = parsed.config, vars(parsed).get("request")
    if command == "train":
        check_train(request, list(key_types(schema)))
    elif command == "export":
        check_export(config, request)
    elif command in ("plan", "prepare"):
        check_form(config)
    return Invocation(command, config, request)


def check_paths(invocation: Invocation) -> None:
    """FileNotFoundError for a path that the command is going to read and that is not there."""
    config, request = invocation.config, invocation.request
    for key, path in config.weight_paths().items():
        # verify reads the cache alone
        reads = path is not None and invocation.command != "verify"
        if reads and not Path(path).expanduser().exists() and not _may_be_hub_id(path):
            raise FileNotFoundError(f"{key}={path} does not exist{similar_path(Path(path))}")
    if invocation.command == "prepare":
        find_source(config.data.source, config.data.format)
    if invocation.command in ("train", "verify"):
        _need_folder("data.cache", config.data.cache, "run `prepare` with the same config first")
    names_run = isinstance(request, SampleRequest | ExportRequest)
    needs_run = names_run and request.checkpoint != "base" and not Path(request.checkpoint).is_dir()
    if needs_run:
        _need_folder("run", config.run, "run `train` with the same config first")
    if isinstance(request, SampleRequest) and request.prompt_file and not Path(request.prompt_file).is_file():
        raise FileNotFoundError(
            f"--prompt_file {request.prompt_file} does not exist{similar_path(Path(request.prompt_file))}"
        )


def _need_folder(key: str, path: str, cure: str) -> None:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{key}={path} is not a folder{similar_path(Path(path))}; {cure}")


def _may_be_hub_id(name: str) -> bool:
    """Whether `name` reads as owner/model on the hub, and owner is no folder here."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None and not Path(name.partition("/")[0]).exists()


def _usage(program: str) -> str:
    commands = "\n".join(f"  {name:9}{text}" for name, text in (COMMANDS | LOOKS).items())
    return (
        f"usage: {program} COMMAND CONFIG.yaml [--section.key value ...]\n"
        f"       {program} status RUN | {program} doctor\n\n{commands}\n\n"
        f"`{program} COMMAND CONFIG.yaml --help` lists every key with that file's values."
    )


def _origin_of_values(path: str | None) -> str:
    return (
        f"Values in brackets are those of {path}."
        if path
        else "Values are defaults; name a CONFIG.yaml to see its own."
    )


def _invocation_type(command: str, schema: type[Config]) -> type:
    """Config and request side by side, without a prefix of their own: --loop.updates, --prompts."""
    fields = [("config", Annotated[schema, tyro.conf.arg(name="")])]
    if command in REQUESTS:
        fields.append(("request", Annotated[REQUESTS[command], tyro.conf.arg(name="")]))
    return make_dataclass(command, fields, frozen=True)


def _request_defaults(command: str) -> dict[str, Any]:
    return {"request": REQUESTS[command]()} if command in REQUESTS else {}


def _unchecked(schema: type, values: Values) -> Any:
    """`schema` for tyro to take defaults from, `__post_init__` not run: an option may still cure a value."""
    instance = object.__new__(schema)
    hints = get_type_hints(schema)
    for name, value in values.items():
        nested = _unchecked(hints[name], value) if isinstance(value, dict) else value
        object.__setattr__(instance, name, tyro.MISSING if isinstance(value, str) and value == MISSING else nested)
    return instance


def _checked_options(options: list[str], command: str, invocation_type: type) -> list[str]:
    """`options` spelled as tyro wants them; ValueError for an option or a value that does not fit, in our own words."""
    types = {}
    for part in get_type_hints(invocation_type).values():
        types |= key_types(part)
    given: list[tuple[str, list[str]]] = []
    for token in options:
        if token.startswith("--"):
            name, equals, value = token.removeprefix("--").partition("=")
            given.append((name.replace("-", "_"), [value] if equals else []))
        elif given:
            given[-1][1].append(token)
        elif token != "-h":
            raise ValueError(f"{token} follows the config file but is no option; write --section.key value")
    checked = []
    for name, words in given:
        if name == "help":
            continue
        if name not in types:
            raise ValueError(f"--{name} is not an option of {command}; {_nearest_option(name, list(types))}")
        hint = types[name]
        # a switch may stand alone
        words = [_as_python(word, hint) for word in words or (["true"] if hint is bool else [])]
        if not _fits(words, hint):
            raise ValueError(f"--{name} {' '.join(words)} should be {describe(hint, ' '.join(words))}")
        checked += [f"--{name}", *words]
    return checked


def _fits(words: list[str], hint: Any) -> bool:
    """Whether tyro can read `words` as a `hint`."""
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        return (inner[1] is Ellipsis or len(words) == len(inner)) and all(_fits([word], inner[0]) for word in words)
    if len(words) != 1:
        return False
    if get_origin(hint) is Literal:
        return words[0] in get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(words, part) for part in get_args(hint))
    if hint is NoneType or hint is bool:
        return words[0] in (["None"] if hint is NoneType else ["True", "False"])
    try:
        hint(words[0])
    except ValueError:
        return False
    return True


def _as_python(word: str, hint: Any) -> str:
    """YAML's true, false and null in tyro's spelling, where the option is not a text."""
    if word.lower() in ("true", "false") and hint is bool:
        return word.capitalize()
    return "None" if word == "null" and NoneType in get_args(hint) else word


def _nearest_option(name: str, valid: list[str]) -> str:
    same_leaf = [key for key in valid if key.rpartition(".")[2] == name.rpartition(".")[2]]
    guess = nearest(name, valid)
    guesses = [guess] if guess else same_leaf
    return f"did you mean --{' or --'.join(guesses)}?" if guesses else "--help lists them"


def _tyro(f: type, default: Any, prog: str, description: str, args: list[str], source: str) -> Any:
    """tyro's result, None after --help; ValueError where a `__post_init__` does not accept the values."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                f,
                default=default,
                prog=prog,
                description=description,
                args=args,
                use_underscores=True,
                config=(tyro.conf.FlagConversionOff, tyro.conf.HelptextFromCommentsOff),
            )
    except SystemExit as exit_:
        if not exit_.code:
            return None
        raise ValueError(f"{source}: {_own_message(exit_) or errors.getvalue()}") from exit_
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _own_message(error: BaseException | None) -> str | None:
    """Of a check in our `__post_init__`, which tyro turned into an exit but left in the chain of exceptions."""
    while error is not None:
        if isinstance(error, ValueError) and raised_by_us(error.__traceback__, "__post_init__"):
            return str(error)
        error = error.__context__
    return None
