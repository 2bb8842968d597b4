"""The code that a model card shows: how plain diffusers puts an export to use, line by line."""

import json
import re

from diffusers import DiffusionPipeline

FOLDER = "FOLDER"
"""Stands for where the export lies."""

Sources = dict[str, str]
"""What a run's weights were loaded from, folders or hub ids, by key of the config's `model`: "base", and where they are
set "vae", "revision", "variant" and what a family has besides."""


def quoted(text: str) -> str:
    """`text` as code."""
    return json.dumps(text, ensure_ascii=False)


def pipeline_code(pipeline: DiffusionPipeline, sources: Sources, **more: str) -> list[str]:
    """Lines that make `pipe`, a plain pipeline of the class of `pipeline`, from what the run was loaded from.

    `more` are further arguments and their code. The lines may begin with imports.
    """
    kind, lines = type(pipeline).__name__, []
    arguments = [quoted(sources["base"])]
    arguments += [f"{key}={quoted(sources[key])}" for key in ("revision", "variant") if key in sources]
    if "vae" in sources:
        module, vae = _home(pipeline.vae), type(pipeline.vae).__name__
        lines = [f"from {module} import {vae}", f"vae = {vae}.from_pretrained({quoted(sources['vae'])})"]
        arguments.append("vae=vae")
    arguments += [f"{name}={code}" for name, code in more.items()]
    made = f"pipe = {kind}.from_pretrained({', '.join(arguments)})"
    return [*_foreign(pipeline), *lines, f"from diffusers import {kind}", made]


def _foreign(pipeline: DiffusionPipeline) -> list[str]:
    """Imports without which diffusers does not know the pipeline's VAE."""
    return [] if (module := _home(pipeline.vae)) == "diffusers" else [f"import {module}"]


def _home(component: object) -> str:
    module = type(component).__module__
    return "diffusers" if module.startswith("diffusers.") else module


def script(lines: list[str]) -> str:
    """One piece of Python, the lines' imports in front and each module's in one."""
    names: dict[str, set[str]] = {}
    plain, code = [], []
    for line in lines:
        if found := re.fullmatch(r"from (\S+) import (\w+)", line):
            names.setdefault(found[1], set()).add(found[2])
        elif line.startswith("import "):
            plain.append(line)
        else:
            code.append(line)
    imports = [*plain, *(f"from {module} import {', '.join(sorted(found))}" for module, found in sorted(names.items()))]
    return "\n".join([*imports, "", *code])
