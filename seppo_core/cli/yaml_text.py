"""Values as a person would write them into a YAML file."""

import json
import re
from typing import Any

_PLAIN = re.compile(
    r"(?!(?:true|false|null|yes|no|on|off|y|n|~|\.inf|\.nan)$)(?!\.\d)[A-Za-z_./~][\w./+~-]*", re.IGNORECASE
)
_UNPRINTABLE = re.compile("[^ -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that a YAML file may not hold, or that are a line break in one."""


def scalar(value: Any) -> str:
    """`value` on one line, which a YAML reader gives back: text bare where that is safe, else quoted as in JSON."""
    if isinstance(value, str):
        quoted = _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
        return value if _PLAIN.fullmatch(value) else quoted
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {scalar(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(scalar, value)) + "]"
    if isinstance(value, float) and "e" in (text := repr(value)) and "." not in text:
        # YAML 1.1 takes 1e-05 for a text
        return text.replace("e", ".0e")
    return json.dumps(value)


COMMENTS = {
    "run": "checkpoints, previews, metrics; the same `train` goes on with it",
    "model.base": "a Hub id, a diffusers folder, or one .safetensors file",
    "model.family": "left out, it is that of the base",
    "model.dtype": "of VAE, text encoders and the weights under a LoRA",
    "data.source": "a folder, a table, parquet files, tars or a Hub data set",
    "data.cache": "`prepare` writes it, `train` reads it",
    "data.supervision": "winners, pairs, or labels",
    "data.height": "pixels, after resize and centre crop",
    "data.width": "pixels, after resize and centre crop",
    "data.frames": "frames of a clip",
    "data.stride": "every so many frames of a file are taken",
    "method.name": "`train --help` lists all methods",
    "method.flipper": "what a sample that beats the policy counts as: sign, indicator, off",
    "method.reference": "the snapshot that draws the samples: initial, latest, random",
    "method.beta": "larger keeps nearer to the reference",
    "reference_samples.steps": "denoising steps of the samples that winners are set against",
    "reference_samples.guidance_scale": "1 turns guidance off",
    "reference_samples.batch_size": "samples drawn at once",
    "tune.mode": "lora, or full for all weights",
    "tune.rank": "of the LoRA",
    "loop.iterations": "each begins with new samples",
    "loop.updates_per_iteration": "optimiser steps of an iteration",
    "loop.batch_size": "winners of an update, over all GPUs",
    "loop.micro_batch_size": "of them at once on a GPU: lower it where memory is short",
    "loop.gradient_checkpointing": "less memory for a third more time",
    "loop.checkpoint_every": "updates; a stop loses no more than these",
    "optimizer.lr": "lower it if winner_error rises",
    "preview.prompts": "drawn before, during and after: look at these, not at the loss",
    "preview.every": "updates between previews",
    "preview.steps": "denoising steps",
}
"""What a written config says of its keys."""
_COLUMN = 47
_JUDGE = ("  # judge: hps_v2.1", "scores every preview, once its weights are there; see docs/judges.md")


def commented(values: dict[str, Any], header: list[str]) -> str:
    """`values`, sections of keys, as YAML with `header` in front and a comment beside each key that has one."""
    lines = [f"# {line}" for line in header]
    for section, inner in values.items():
        if not isinstance(inner, dict):
            lines.append(_line(f"{section}: {scalar(inner)}", COMMENTS.get(section)))
            continue
        lines.append(f"{section}:")
        for key, value in inner.items():
            comment = COMMENTS.get(f"{section}.{key}")
            if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
                lines.append(_line(f"  {key}:", comment))
                lines += [f"    - {scalar(one)}" for one in value]
            else:
                lines.append(_line(f"  {key}: {scalar(value)}", comment))
        if section == "preview" and "judge" not in inner:
            lines.append(_line(*_JUDGE))
    return "\n".join(lines) + "\n"


def _line(text: str, comment: str | None) -> str:
    return text if comment is None else f"{text:{_COLUMN}} # {comment}"
