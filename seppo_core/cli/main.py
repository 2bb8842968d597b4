"""`PROGRAM COMMAND CONFIG.yaml [--section.key value ...]`: parses and checks the command line, then runs the command.

A mistake in the command line, the config or its paths is reported in one line before torch is imported.
"""

import atexit
import contextlib
import gc
import os
import sys
import warnings
from dataclasses import dataclass, fields, make_dataclass
from importlib.metadata import version
from pathlib import Path
from signal import SIGINT
from typing import Annotated, Any

import tyro

from seppo_core.cli import next_steps
from seppo_core.cli.checks import Request, check_cached, check_paths, check_prompts, check_request
from seppo_core.cli.doctor import doctor
from seppo_core.cli.init import USAGE as INIT_USAGE
from seppo_core.cli.init import init
from seppo_core.cli.recipes import refuse_recipe
from seppo_core.cli.watch import USAGE, status
from seppo_core.config.cpu import one_thread_if_tiny
from seppo_core.config.keys import key_types
from seppo_core.config.loader import MISSING, Draft, Words, read_draft
from seppo_core.config.messages import nearest
from seppo_core.config.options import (
    CompareRequest,
    ExportRequest,
    PlanRequest,
    PrepareRequest,
    RankRequest,
    SampleRequest,
    TrainRequest,
    VerifyRequest,
)
from seppo_core.config.schema import Config
from seppo_core.config.variants import Variants
from seppo_core.distributed import watch
from seppo_core.distributed.signals import Stopped, raising
from seppo_core.io.disk_errors import explanation
from seppo_core.io.lazy import import_large, import_object
from seppo_core.io.quiet import quiet_loading_bars
from seppo_core.run.names import config_of

COMMANDS = {
    "init": "write a config to begin with: for your own data, from a recipe, or a toy that trains offline in minutes",
    "plan": "estimate memory, work, disk and hours of a run; needs neither weights nor network",
    "prepare": "encode the winners of data.source once, into data.cache",
    "verify": "read data.cache, the base and the run in full again, and name what is damaged",
    "train": "align the model; the same command continues a stopped run",
    "sample": "draw samples from the aligned model, or from the base",
    "rank": "draw samples and have a judge choose among them: data that prepare reads",
    "export": "write a LoRA or a pipeline that plain diffusers loads",
    "status": "show progress, health and remaining time of a run, from its folder alone",
    "compare": "show runs or checkpoints side by side as one page: samples, scores, curves, settings",
    "doctor": "show versions and devices, and what is missing, for an issue report",
}
REQUESTS: dict[str, type[Request]] = {
    "plan": PlanRequest,
    "prepare": PrepareRequest,
    "verify": VerifyRequest,
    "train": TrainRequest,
    "sample": SampleRequest,
    "rank": RankRequest,
    "export": ExportRequest,
}
"""The options of the commands that take a config."""
USAGES = {"init": INIT_USAGE, "status": USAGE, "doctor": "doctor"}
"""How the commands that take none are called."""

# Python looks for garbage once more when it ends, a second of processor time in all that torch and diffusers left
atexit.register(gc.freeze)


@dataclass(frozen=True)
class Invocation:
    """A command line, parsed and checked."""

    command: str
    config: Config
    request: Request
    words: tuple[str, ...]
    """The config file, and the options that changed its values."""


def run(argv: list[str], program: str, schema: type[Config], commands_module: str) -> int:
    """Runs one command of `commands_module`, which is imported after everything else is checked; the exit status.

    ValueError, OSError, FloatingPointError and ModuleNotFoundError become one line on stderr and status 2, or keep
    their traceback if SEPPO_TRACEBACK=1 is set. All other errors keep theirs. SIGTERM gives 143, SIGINT 130.
    """
    watch.program = program
    try:
        with raising():
            return _run(argv, program, schema, commands_module)
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        if os.environ.get("SEPPO_TRACEBACK") == "1":
            raise
        print(f"{program}: {' '.join((explanation(error) or str(error)).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        stopped = stop if isinstance(stop, Stopped) else Stopped(SIGINT)
        print(f"{program}: {stopped}; the same command goes on from where it was saved", file=sys.stderr)
        return stopped.status


def _run(argv: list[str], program: str, schema: type[Config], commands_module: str) -> int:
    command, *rest = argv or ["--help"]
    if command in ("-h", "--help"):
        print(_usage(program))
    elif command == "--version":
        print(f"{program} {version('seppo')}")
    elif command not in COMMANDS:
        guess = nearest(command, list(COMMANDS))
        hint = f"did you mean {guess}?" if guess else f"use {', '.join(COMMANDS)}"
        raise ValueError(f"{command} is not a command; {hint}")
    elif command in USAGES and _wants_help(rest):
        usage = USAGES[command].format(program=program)
        print(f"usage: {program} {usage}\n\n{_sentence(COMMANDS[command])}")
    elif command == "init":
        name, words = (rest[0], rest[1:]) if rest and not rest[0].startswith("-") else (None, rest)
        print(init(program, name, _options(words), schema, commands_module))
    elif command == "status":
        status(program, rest)
    elif command == "compare":
        _compare(rest, program, schema, commands_module)
    elif command == "doctor":
        if rest:
            raise ValueError(f"doctor takes no arguments, not {' '.join(rest)}: {program} doctor")
        return doctor(Path.cwd())
    else:
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always", FutureWarning)
            invocation = parse(argv, program, schema)
        for warning in noted:
            print(f"{program}: {warning.message}", file=sys.stderr)
        if invocation is not None:
            _call(invocation, program, commands_module, has_options=len(argv) > 2)
    return 0


def _call(invocation: Invocation, program: str, commands_module: str, has_options: bool) -> None:
    """Runs a command that takes a config, and says what comes next."""
    command, config, request, words = (
        invocation.command, invocation.config, invocation.request, invocation.words,
    )  # fmt: skip
    check_paths(config, request)
    check_cached(config, request)
    if command == "plan":
        # the plans of known recipes need no torch, which the other commands import
        plan = import_object("seppo_core.plan.report:print_plan")(config, request)
        if not request.json:
            print(f"\n{next_steps.after_plan(program, words, plan)}")
        return
    one_thread_if_tiny(config.model.base)
    imported = commands_module in sys.modules
    commands = import_large(commands_module)
    if not imported:
        # they stay, and need not be looked through for garbage while the command works either
        gc.freeze()
    quiet_loading_bars()
    result = getattr(commands, command)(config, request)
    if os.environ.get("RANK", "0") != "0":
        return
    if command == "prepare":
        print(next_steps.after_preparing(program, words))
    elif command == "train" and result is not None:
        print(next_steps.after_training(program, result, words[0], has_options))
    elif command == "sample":
        print(next_steps.after_sampling(program, words, config, request))
    elif command == "rank":
        print(next_steps.after_ranking(program, words, result, request))
    elif command == "export":
        print(next_steps.after_export(result, request))


def _compare(words: list[str], program: str, schema: type[Config], commands_module: str) -> None:
    options = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    if _wants_help(words):
        named = f"{program} compare RUN RUN"
        told = f"{_sentence(COMMANDS['compare'])} A checkpoint is called RUN:best, RUN:base, RUN:60, or by its path."
        _print_parts("compare", named, [("request", CompareRequest, CompareRequest())], told)
        return
    given = _options(words[options:])
    own = [field.name for field in fields(CompareRequest)]
    for name in given:
        if name not in own:
            guess = nearest(name, own)
            hint = f"did you mean --{guess}?" if guess else f"use --{', --'.join(own)}"
            raise ValueError(f"--{name} is not an option of compare; {hint}")
    request = read_draft(None, CompareRequest, given).build()
    check_prompts(request)
    page = import_object("seppo_core.cli.compare:compare")(words[:options], request, schema, commands_module)
    print(f"look at it: {page}\n{next_steps.after_comparing(program, words[:options])}")


def parse(argv: list[str], program: str, schema: type[Config]) -> Invocation | None:
    """The command, config and options of `argv`, or None after printing the help it asks for. Reads the config file.

    Raises ValueError or FileNotFoundError, in one line, for what does not fit.
    """
    command, *rest = argv
    path, words = (rest[0], rest[1:]) if rest and not rest[0].startswith("-") else (None, rest)
    if path is None and not _wants_help(words):
        raise ValueError(f"{command} needs a config file: {program} {command} CONFIG.yaml; init writes one")
    moved = None
    if path is not None:
        refuse_recipe(path)
        path, moved = config_of(path)
    request_type = REQUESTS[command]
    own = {field.name for field in fields(request_type)}
    options = _options(words)
    if moved is not None:
        options.setdefault("run", Words([moved]))
    for name in options:
        if "." not in name and name not in own | set(key_types(schema)) and (guess := nearest(name, sorted(own))):
            raise ValueError(f"--{name} is not an option of {command}; did you mean --{guess}?")
    draft = read_draft(path, schema, {name: value for name, value in options.items() if name not in own})
    if _wants_help(words):
        _print_help(command, f"{program} {command} {path or 'CONFIG.yaml'}", draft, path)
        return None
    config = draft.build()
    request = read_draft(None, request_type, {name: value for name, value in options.items() if name in own}).build()
    changed = [word for name, values in options.items() if name not in own for word in (f"--{name}", *values)]
    return Invocation(command, config, check_request(config, request), (path, *changed))


def _wants_help(words: list[str]) -> bool:
    return "-h" in words or "--help" in words


def _options(words: list[str]) -> dict[str, Words]:
    """The words after every option, by its name; ValueError for a word that follows none."""
    options: dict[str, Words] = {}
    name = None
    for word in words:
        if word in ("-h", "--help"):
            continue
        if word.startswith("--"):
            name, equals, value = word.removeprefix("--").partition("=")
            name = name.replace("-", "_")
            options[name] = Words([value] if equals else [])
        elif name is None:
            raise ValueError(f"{word} follows the config file but is not an option; write --section.key value")
        else:
            options[name] = Words([*options[name], word])
    return options


def _usage(program: str) -> str:
    commands = "\n".join(f"  {name:9}{text}" for name, text in COMMANDS.items())
    return (
        f"usage: {program} init toy, init mine --data FOLDER, or init --list\n"
        f"       {program} COMMAND CONFIG.yaml [--section.key value ...], or the folder of a run\n"
        f"       {program} status RUN [--watch]\n"
        f"       {program} compare RUN RUN\n"
        f"       {program} doctor\n\n{commands}\n\n"
        f"`{program} COMMAND CONFIG.yaml --help` lists every key with its meaning and its value in that file.\n"
        "An error is reported in one line; SEPPO_TRACEBACK=1 in the environment shows where it was raised."
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _print_help(command: str, program: str, draft: Draft, path: str | None) -> None:
    """Every key with its text and the value of `draft`, and the alternatives of sections that have some."""
    origin = f"Values in brackets are those of {path}." if path else "Name a CONFIG.yaml to see its values."
    description = [_sentence(COMMANDS[command]), origin]
    for section, chosen in ((field.name, field.type) for field in fields(draft.chosen)):
        if isinstance(chosen, type) and issubclass(chosen, Variants):
            lines = [f"  {name}: {variant.__doc__}" for name, variant in chosen.variants().items()]
            key = f"{section}.{chosen.chosen_by}"
            description.append("\n".join([f"--{key} is one of the following; pass it to see its own keys:", *lines]))
    request = REQUESTS[command]
    # side by side, without a prefix of their own: --loop.iterations, --prompts
    parts = [("config", draft.chosen, _unchecked(draft.chosen, draft.values)), ("request", request, request())]
    _print_parts(command, program, parts, "\n\n".join(description))


def _print_parts(command: str, program: str, parts: list[tuple[str, type, Any]], description: str) -> None:
    arguments = make_dataclass(
        command, [(name, Annotated[part, tyro.conf.arg(name="")]) for name, part, _ in parts], frozen=True
    )
    with contextlib.suppress(SystemExit):
        tyro.cli(
            arguments,
            default=arguments(**{name: value for name, _, value in parts}),
            prog=program,
            description=description,
            args=["--help"],
            use_underscores=True,
            config=(tyro.conf.FlagConversionOff, tyro.conf.HelptextFromCommentsOff),
        )


def _unchecked(schema: type, values: dict[str, Any]) -> Any:
    """`schema` for tyro to take defaults from. `__post_init__` is not run, for the values may be incomplete."""
    instance = object.__new__(schema)
    types = {field.name: field.type for field in fields(schema)}
    for name, value in values.items():
        nested = _unchecked(types[name], value) if isinstance(value, dict) else value
        object.__setattr__(instance, name, tyro.MISSING if isinstance(value, str) and value == MISSING else nested)
    return instance
