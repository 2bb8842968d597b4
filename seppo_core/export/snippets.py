"""The code that a model card shows: how plain diffusers puts an export to use, line by line."""

import json
import re

from diffusers import DiffusionPipeline

from seppo_core.config.single_file import SUFFIX
from seppo_core.models.adapter import Adapter

FOLDER = "FOLDER"
"""Placeholder for the folder of the export."""

Sources = dict[str, str]
"""Folders or hub ids that a run's weights were loaded from, by key of the config's `model`: "base", and if they are set
"vae", "revision", "variant" and what a family has besides."""


def usage(adapter: Adapter, kind: str, sources: Sources) -> list[str]:
    """Lines of Python that make a plain diffusers pipeline, `pipe`, of an export in `FOLDER`.

    `kind` is what was exported: "lora", or "full" for a whole pipeline.
    """
    if kind == "full":
        return pipeline_code(adapter.pipeline, {"base": FOLDER}, **left_out(adapter))
    return [*pipeline_code(adapter.pipeline, sources, **left_out(adapter)), *sampler_code(adapter), *lora_code(adapter)]


def left_out(adapter: Adapter) -> dict[str, str]:
    """Arguments for text encoders that the policy was trained without: the base may have them, an export has not."""
    texts = ("text_encoder", "tokenizer")
    return {
        name: "None" for name, part in adapter.pipeline.components.items() if part is None and name.startswith(texts)
    }


def sampler_code(adapter: Adapter) -> list[str]:
    """Lines that give `pipe` the scheduler that the policy was sampled with, if it is not the base's."""
    if adapter.sampler_change is None:
        return []
    kind, config = adapter.sampler_change
    values = ", ".join(f"{name}={value!r}" for name, value in config.items())
    return [
        f"from diffusers import {kind.__name__}",
        f"pipe.scheduler = {kind.__name__}.from_config(pipe.scheduler.config, {values})",
    ]


def lora_code(adapter: Adapter) -> list[str]:
    """Lines that put the exported LoRA on `pipe`."""
    if adapter.lora_format == "peft":
        name = adapter.component
        return [
            "from peft import PeftModel",
            f"pipe.{name} = PeftModel.from_pretrained(pipe.{name}, {quoted(FOLDER)})",
        ]
    return [f"pipe.load_lora_weights({quoted(FOLDER)})"]


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
    loader = "from_single_file" if sources["base"].endswith(SUFFIX) else "from_pretrained"
    made = f"pipe = {kind}.{loader}({', '.join(arguments)})"
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
