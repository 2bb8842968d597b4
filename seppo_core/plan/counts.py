"""Counts of known recipes, whose plans then need neither torch nor a minute; `python -m tools.plan_counts` writes them.

A count is used only if all that it depends on is what it was: the architecture's numbers and every key of the config
but those that are known to change none of it.
"""

import json
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from seppo_core.config.loader import plain
from seppo_core.config.schema import Config
from seppo_core.io.lazy import import_object
from seppo_core.plan.architecture import base_architecture, replacements
from seppo_core.plan.step_costs import Block, Cost, Matrices, StepCosts, Weights

FILE = Path(__file__).with_name("counts.json")
REVISION = 1
"""Raised when a change here or in `measure` makes the stored counts others."""
SECTIONS = ("model", "data", "method", "reference_samples", "tune", "loop")
IRRELEVANT = {
    "model": ("base", "single_file_config", "revision", "variant", "lora", "quantize", "quantize_text", "offload"),
    "data": (
        "source", "cache", "format", "pick", "root", "caption_column", "first_column", "second_column", "label_column",
        "split", "subset", "revision", "streaming", "expected_rows", "expected_sha256", "max_file_mb", "workers",
        "prefetch", "caption_dropout", "posterior", "validation", "validation_cache", "max_rejected_share", "sampling",
        "stride", "reader",
    ),
    "method": ("beta", "reference", "pool_window"),
    "reference_samples": ("guidance_interval", "repeat_after", "uses"),
    "loop": (
        "iterations", "updates_per_iteration", "batch_size", "sharded", "context_parallel", "validate_every",
        "validate_items", "checkpoint_every", "keep_checkpoints", "keep_every", "keep_best", "offload_activations",
        "deterministic", "judge", "judge_samples", "judge_column", "judge_places", "reference_draws", "compile",
    ),
}  # fmt: skip
"""Keys that change nothing of a count. Whatever is not named here does, keys of later versions too."""


def costs_of(config: Config) -> StepCosts:
    """The costs of `config`: those stored if they are known, else counted, which imports torch.

    Raises FileNotFoundError if the architecture of the base is not known without network.
    """
    found = stored().get(key_of(config))
    if found is not None:
        return from_json(found["costs"])
    return import_object("seppo_core.plan.measure:measure")(config)


@cache
def stored() -> dict[str, Any]:
    """The counts that come with this program, by `key_of`."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def key_of(config: Config) -> str:
    """A hash of all that a count depends on."""
    numbers, content = base_architecture(config), plain(config)
    parts = config.model.parts()
    kept = {
        section: {
            name: value
            for name, value in content[section].items()
            if name not in IRRELEVANT.get(section, ())
            and not (section == "model" and name in parts)
            # counts were stored before there was this key
            and (name, value) != ("checkpointing_share", 1.0)
        }
        for section in SECTIONS
    }
    preview = config.preview
    kept["preview"] = [bool(preview.prompts), preview.at_once, preview.guidance_scale]
    if config.loop.judge is not None:
        kept["judge"] = True
    if config.refers_to_base:
        kept["reference"] = "base"
    kept["numbers"] = [numbers.index, numbers.parts, replacements(parts, config.model.bases)]
    kept["revision"] = REVISION
    return sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:32]


def to_json(costs: StepCosts) -> dict[str, Any]:
    """`costs` as JSON holds them."""
    return asdict(costs) | {"steps": {str(used): asdict(cost) for used, cost in costs.steps.items()}}


def from_json(content: dict[str, Any]) -> StepCosts:
    """The costs that `to_json` wrote."""
    weights = dict(content["weights"])
    for name in ("block", "outside"):
        weights[name] = Block(**weights[name])
    weights["matrices"] = {name: Matrices(**one) for name, one in weights["matrices"].items()}
    one = {name: content[name] and Cost(**content[name]) for name in ("denoising", "previewing", "decoding")}
    return StepCosts(
        **content
        | one
        | {
            "weights": Weights(**weights),
            "latent_shape": tuple(content["latent_shape"]),
            "steps": {used: Cost(**content["steps"][str(used)]) for used in (False, True)},
            "encoding": Cost(**content["encoding"]),
            "encoding_one": Cost(**content["encoding_one"]),
        }
    )
