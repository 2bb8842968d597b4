"""`init NAME --data FOLDER`: counts the data, and writes a commented config for them from the recipe that fits."""

from collections.abc import Mapping
from dataclasses import fields
from math import log, sqrt
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, get_type_hints

from seppo_core.cli.checks import check_paths
from seppo_core.cli.recipes import find_recipe, planned, recipes
from seppo_core.cli.yaml_text import commented
from seppo_core.config.cpu import is_small
from seppo_core.config.loader import Values, read_draft, read_values
from seppo_core.config.messages import nearest
from seppo_core.config.method import MethodConfig
from seppo_core.config.options import PrepareRequest
from seppo_core.config.schema import Config
from seppo_core.data.discover import find_source
from seppo_core.io.atomic import save_text
from seppo_core.io.lazy import import_large
from seppo_core.plan.advice import advice, native_size
from seppo_core.report.wording import counted

SMALLEST = {"image": "sd15_lora_seppo", "video": "wan21_1_3b_lora_seppo"}
LOOKED_AT = {"image": 256, "video": 24}
"""Items that are decoded, spread evenly over the data; whether a row has its file is seen of all."""
NOUN = {"image": "picture", "video": "clip"}
PROMPTS = 4
KEPT = ("height", "width", "frames", "sampling", "stride", "cache_dtype", "encode_batch_size", "vae_tiling")
"""Keys of a recipe's data that are about the model and not about what it was written for."""
KINDS = ("no caption", "empty caption", "cannot be read", "too short", "no such file")
"""How the reasons of what cannot be used begin, of which there is one in every other file."""
SQUARE = 1.15
"""Sides may differ by this factor and the size still be the model's own square."""


ON_CPU = {
    "iterations": 2, "updates_per_iteration": 20, "batch_size": 16, "micro_batch_size": 8, "mixed_precision": "no",
}  # fmt: skip
"""The loop for a base that is small enough for a CPU, which would take hours for that of a recipe."""


class Seen(NamedTuple):
    """What was counted: all rows, height and width of those that were decoded, and what cannot be used, by reason."""

    items: int
    looked_at: int
    sizes: list[tuple[int, int]]
    captions: list[str]
    """The distinct ones, in the order of the data."""
    problems: dict[str, list[str]]
    """By the kind of reason, what it says of each."""

    @property
    def usable(self) -> int:
        """At most so many, for not all were decoded."""
        return self.items - sum(map(len, self.problems.values()))


def write_config(
    program: str, name: str, out: Path, given: Mapping[str, str], schema: type[Config], commands_module: str
) -> tuple[str, str | None]:
    """Writes `out`; returns what was counted and chosen, in words, and the GPU that the recipe is for; None if the base
    is small enough for a CPU, and the config computes in float32.

    ValueError or FileNotFoundError, before anything is loaded, for a base, a method or data that do not fit.
    """
    modality = program.rpartition("-")[2]
    # a folder without captions is told before anything is imported
    find_source(given["data"])
    recipe = _recipe(given, modality, schema)
    values = _values(name, recipe, given)
    on_cpu = is_small(values["model"]["base"])
    if on_cpu:
        values["model"] = values["model"] | {"dtype": "float32"}
        values["loop"] = dict(ON_CPU)
    config = read_draft(None, schema, values).build()
    check_paths(config, PrepareRequest())
    native = (native_size(config) if "base" in given else None) or (config.data.height, config.data.width)
    seen = _look(import_large(commands_module).source_of(config), modality)
    height, width = fitting_size(seen.sizes, native) if modality == "image" else (config.data.height, config.data.width)
    values["data"] |= {"height": height, "width": width, "cache": f"cache/{name}_{height}x{width}"}
    step = max(1, len(seen.captions) // PROMPTS)
    values["preview"] |= {"prompts": seen.captions[::step][:PROMPTS]}
    config = read_draft(None, schema, values).build()
    told = _told(seen, config, out, modality)
    warned = [f"careful: {line}" for line in advice(config, seen.usable, seen.sizes)]
    gpu = None if on_cpu else planned(recipe).gpu if planned(recipe) is not None else "a100"
    save_text(out, commented(values, _header(program, out, recipe, gpu, given, [*told[:-1], *warned])))
    updates = ON_CPU["iterations"] * ON_CPU["updates_per_iteration"]
    cpu = f"its base is small enough for a CPU: float32, and {updates} updates to begin with (loop.iterations)"
    small = [cpu] if on_cpu else []
    return "\n".join([*told, *small, *warned]), gpu


def fitting_size(sizes: list[tuple[int, int]], native: tuple[int, int]) -> tuple[int, int]:
    """Height and width in steps that every VAE takes: the data's middle aspect, at most 1 : 2, and no more pixels than
    the model was trained with or the middle item has."""
    height, width = native
    step = 64 if min(native) >= 256 else 8
    ratio = median(log(h / w) for h, w in sizes)
    pixels = min(height * width, median(h * w for h, w in sizes))
    if height == width and abs(ratio) < log(SQUARE):
        side = max(step, int(sqrt(pixels)) // step * step)
        return side, side
    ratio = max(-log(2), min(log(2), ratio))
    sides = range(step, 2 * max(native) + 1, step)
    fitting = [(one, other) for one in sides for other in sides if one * other <= pixels] or [(step, step)]
    # what a crop loses, and what a smaller size does
    return min(fitting, key=lambda size: abs(log(size[0] / size[1]) - ratio) - log(size[0] * size[1]))


def _recipe(given: Mapping[str, str], modality: str, schema: type[Config]) -> Path:
    if "recipe" in given:
        return find_recipe(given["recipe"], modality)
    found = recipes(modality)
    if "base" not in given:
        return found[SMALLEST[modality]]
    base, model = given["base"], get_type_hints(schema)["model"]
    # those for data of one's own come first
    models = {
        path: read_values(path)["model"]
        for path in sorted(found.values(), key=lambda path: ("_lora_seppo" not in path.stem, path.stem))
    }
    same = next((path for path, values in models.items() if values["base"] == base), None)
    family = model.inferred({"base": base})
    if same is None and family is None:
        raise ValueError(
            f"--base {base}: its family is not known without network; name a recipe of that family with --recipe "
            f"(`seppo-{modality} init --list`), or a folder or file on this machine"
        )
    families = {
        path: values.get("family") or model.inferred(values) or model.chosen() for path, values in models.items()
    }
    return same or next(path for path, one in families.items() if one == family)


def _values(name: str, recipe: Path, given: Mapping[str, str]) -> Values:
    """The recipe's settings for the user's data, base and method; its paths are left behind."""
    values = read_values(recipe)
    method, variants = given.get("method", "seppo"), MethodConfig.variants()
    if method not in variants:
        guess = nearest(method, list(variants))
        hint = f"did you mean {guess}?" if guess else f"use {', '.join(variants)}"
        raise ValueError(f"--method {method} is not a method; {hint}")
    model = values["model"] if "base" not in given else _rebased(values["model"], given["base"])
    own = {field.name for field in fields(variants[method])}
    objective = {key: value for key, value in values.get("method", {}).items() if key in own - {"name"}}
    if method == "seppo":
        objective = {"flipper": "indicator", "reference": "initial"} | objective
    supervision = variants[method].spec.supervision
    generated = variants[method].spec.counterpart == "generated"
    return {
        "run": f"runs/{name}",
        "model": model,
        "data": {"source": given["data"], "cache": f"cache/{name}"}
        | ({} if supervision == "winners" else {"supervision": supervision})
        # what is left out has the schema's default, and is written all the same
        | {key: values["data"][key] for key in KEPT if key in values["data"]},
        "method": {"name": method} | objective,
        **({"reference_samples": values["reference_samples"]} if generated and "reference_samples" in values else {}),
        **{section: values[section] for section in ("tune", "loop", "optimizer") if section in values},
        # its prompts give way to captions of the data, once these are read
        "preview": values["preview"],
    }


def _rebased(model: Values, base: str) -> Values:
    return {key: value for key, value in model.items() if key not in ("revision", "variant")} | {"base": base}


def _look(source: Any, modality: str) -> Seen:
    """Counts the rows of a `MediaSource`, and decodes some as `prepare` will."""
    # only now is torch imported, by the readers
    from seppo_core.data.source import BadItem, LeftOut

    count = len(source.records)
    if not count:
        raise ValueError("data.source holds no items; put pictures or clips there, each with a caption")
    spread = {number * count // LOOKED_AT[modality] for number in range(LOOKED_AT[modality])}
    sizes, captions, problems, looked_at = [], {}, {}, 0
    for position in range(count):
        try:
            record = source.records.record(position)
            captions[record.caption] = None
            if position in spread:
                looked_at += 1
                item = source.item(position * (len(source) // count))
                crop = next(iter(item.views.values())).crop
                sizes.append((crop.original_height, crop.original_width))
        except LeftOut:
            continue
        except BadItem as error:
            kind = next((one for one in KINDS if error.reason.startswith(one)), "other")
            problems.setdefault(kind, []).append(f"{error.file}: {error.reason.removeprefix(f'{kind}: ')}")
    if not sizes:
        example = next(iter(problems.values()), [""])[0]
        raise ValueError(f"none of the {counted(looked_at or count, 'item')} looked at can be used: {example}")
    return Seen(count, looked_at, sizes, [one for one in captions if one.strip()], problems)


def _told(seen: Seen, config: Config, out: Path, modality: str) -> list[str]:
    d, loop, noun = config.data, config.loop, NOUN[modality]
    by_area = sorted(seen.sizes, key=lambda size: size[0] * size[1])
    least, middle, most = (f"{h} x {w}" for h, w in (by_area[0], by_area[len(by_area) // 2], by_area[-1]))
    looked = "" if seen.items <= LOOKED_AT[modality] else f", of {seen.looked_at} looked at"
    lines = [
        f"{d.source}: {counted(seen.items, noun)} with {counted(len(seen.captions), 'different caption')}",
        f"  height x width: {least} to {most}, the middle one {middle}{looked}",
    ]
    if bad := seen.items - seen.usable:
        kinds = "; ".join(f"{len(examples)} {kind} ({examples[0]})" for kind, examples in seen.problems.items())
        lines.append(f"  not usable: {counted(bad, noun)}{looked}: {kinds}")
    small = sum(h < d.height or w < d.width for h, w in seen.sizes)
    if small:
        lines.append(f"  smaller than {d.height} x {d.width}, so that they are enlarged: {small} of {len(seen.sizes)}")
    drawn = loop.iterations * loop.updates_per_iteration * loop.batch_size
    trained = "all weights" if config.tune.mode == "full" else f"a LoRA of rank {config.tune.rank}"
    frames = f", {d.frames} frames" if d.frames > 1 else ""
    lines.append(
        f"{out}: {config.method.name} on {config.model.base} at {d.height} x {d.width}{frames}, {trained}; "
        f"{drawn:,} items are seen, so each {noun} about {max(1, round(drawn / max(1, seen.usable)))} times"
    )
    return lines


def _header(
    program: str, out: Path, recipe: Path, gpu: str | None, given: Mapping[str, str], told: list[str]
) -> list[str]:
    options = " ".join(f"--{key} {value}" for key, value in given.items())
    return [
        f"Written by `{program} init {out.stem} {options}` from the recipe {recipe.stem}, for {gpu or 'a CPU'}.",
        f"  {program} plan {out}{f' --gpu {gpu}' if gpu else ''}",
        f"  {program} prepare {out}",
        f"  {program} train {out}",
        *(f"Counted: {line}" if not number else line for number, line in enumerate(told)),
        f"All keys with their meaning: {program} train {out} --help",
    ]
