"""Checks of a command before anything is loaded: options and paths against the config. Without torch."""

import os
import re
from pathlib import Path

from seppo_core.cache.manifest import Manifest
from seppo_core.config.base_files import is_cached, is_offline, model_problems, not_cached
from seppo_core.config.geometry import context_problem, misfits
from seppo_core.config.lora import check_lora_file
from seppo_core.config.messages import similar_path
from seppo_core.config.options import (
    CompareRequest,
    ExportRequest,
    PlanRequest,
    PrepareRequest,
    RankRequest,
    SampleRequest,
    TrainRequest,
    VerifyRequest,
    check_export,
    check_train,
)
from seppo_core.config.schema import Config, check_supervision
from seppo_core.config.variants import every_key
from seppo_core.data.discover import find_source
from seppo_core.io.locks import holder_of, in_use

Request = PlanRequest | PrepareRequest | VerifyRequest | TrainRequest | SampleRequest | RankRequest | ExportRequest


def check_request(config: Config, request: Request) -> Request:
    """`request` with the names that keys have now; ValueError if it does not fit `config`."""
    if isinstance(request, TrainRequest):
        return check_train(request, every_key(type(config)))
    if isinstance(request, RankRequest) and not request.judge:
        raise ValueError("--judge is missing; give a scorer such as hps_v2.1, module:function, or NAME=COMMAND")
    if isinstance(request, ExportRequest):
        check_export(config, request)
        if request.push is not None:
            # read here, so that other commands do not wait for the Hub's library
            from seppo_core.export.push import check_push

            check_push(request.push)
    elif isinstance(request, PlanRequest | PrepareRequest):
        check_supervision(config)
    return request


def check_paths(config: Config, request: Request) -> None:
    """FileNotFoundError for a path that the command is going to read and that does not exist."""
    for key, path in config.weight_paths().items():
        # verify reads the cache alone
        reads = path is not None and not isinstance(request, VerifyRequest)
        if reads and not Path(path).expanduser().exists() and not _may_be_hub_id(path):
            raise FileNotFoundError(f"{key}={path} does not exist{similar_path(Path(path))}")
    if not isinstance(request, VerifyRequest):
        _check_model(config, isinstance(request, PlanRequest))
    if isinstance(request, TrainRequest | SampleRequest | RankRequest | ExportRequest):
        check_lora_file(config)
    if isinstance(request, PrepareRequest):
        find_source(config.data.source, config.data.format, config.data.supervision == "prompts")
    if isinstance(request, TrainRequest | VerifyRequest):
        _need_folder("data.cache", config.data.cache, "run `prepare` with the same config first")
    names_run = isinstance(request, SampleRequest | RankRequest | ExportRequest)
    if names_run and request.checkpoint != "base" and not is_there(request.checkpoint):
        _need_folder("run", config.run, "run `train` with the same config first")
    if isinstance(request, TrainRequest):
        _check_free(Path(config.run))
        _check_split(config)
    if isinstance(request, SampleRequest | RankRequest):
        check_prompts(request)


def check_cached(config: Config, request: Request) -> None:
    """FileNotFoundError for weights that the command loads from the hub's cache, if it has none and nothing may be
    asked of the hub."""
    if isinstance(request, PlanRequest | VerifyRequest) or not is_offline():
        return
    for key, path in config.weight_paths().items():
        if path is not None and not Path(path).expanduser().exists() and not is_cached(path):
            raise FileNotFoundError(not_cached(key, path))


def check_prompts(request: SampleRequest | RankRequest | CompareRequest) -> None:
    """Raises ValueError or FileNotFoundError where a text is given as a file of prompts, or the reverse."""
    for prompt in request.prompts:
        # a folder may bear the name of what is to be drawn
        if is_there(prompt) and Path(prompt).is_file():
            raise ValueError(f"--prompts {prompt} is a file; read its lines with --prompt_file {prompt}")
    path = request.prompt_file
    if path and not is_there(path):
        if " " in path and not Path(path).suffix:
            raise FileNotFoundError(f"--prompt_file {path!r} is not a file but reads as a prompt; use --prompts")
        raise FileNotFoundError(f"--prompt_file {path} does not exist{similar_path(Path(path))}")
    if path and Path(path).is_dir():
        raise FileNotFoundError(f"--prompt_file {path} is a folder; name the text file in it")


def is_there(name: str) -> bool:
    """Whether a file or folder has this name, which may be any text."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        # too long for a name, or with a NUL in it
        return False


def _check_model(config: Config, numbers_alone: bool) -> None:
    """ValueError with all that keeps the files of the model from being loaded, or the items from fitting it.

    `plan` reads its numbers alone.
    """
    model, data = config.model, config.data
    base = Path(model.base).expanduser()
    found = []
    if base.exists():
        found = model.fitting_problems(base) if numbers_alone else model.base_problems(base)
    problems = [f"model.base={model.base}: {one}" for one in found]
    if not numbers_alone and model.vae is not None and (vae := Path(model.vae).expanduser()).is_dir():
        problems += [f"model.vae={model.vae}: {one}" for one in model_problems(vae)]
    if not problems:
        problems = misfits(_known_parts(config), data.height, data.width, data.frames)
    if problems:
        raise ValueError("; ".join(problems))


def _known_parts(config: Config) -> dict[str, dict]:
    """Configs of the models that are loaded, as far as they are known without network."""
    # it imports the hub's client, which takes longer than all else here
    from seppo_core.plan.architecture import base_architecture, replacements

    try:
        return base_architecture(config).parts | replacements(config.model.parts(), config.model.bases)
    except (FileNotFoundError, ValueError):
        # what is not known here is checked when it is loaded
        return {}


def _need_folder(key: str, path: str, cure: str) -> None:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{key}={path} is not a folder{similar_path(Path(path))}; {cure}")


def _check_free(run: Path) -> None:
    """ValueError, naming the holder, for a run that another process trains in; `train` locks it, much later."""
    # of several processes the first has perhaps locked it for all
    if os.environ.get("WORLD_SIZE", "1") == "1" and (holder := holder_of(run)) is not None:
        raise ValueError(in_use(run, holder))


def _check_split(config: Config) -> None:
    """ValueError if the tokens of an item cannot be split as loop.context_parallel asks, as far as the base is known
    without network; minutes may pass before it has loaded."""
    degree, parts = config.loop.context_parallel, _known_parts(config)
    if degree > 1 and parts:
        shape, text = Manifest.read(Path(config.data.cache)).latent_shape, vars(config.model)["text_tokens"]
        if problem := context_problem(config.model.spec.context, degree, parts, tuple(shape), text):
            raise ValueError(problem)


def _may_be_hub_id(name: str) -> bool:
    """Whether `name` reads as owner/model on the hub, and owner is not a folder here."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None and not Path(name.partition("/")[0]).exists()
