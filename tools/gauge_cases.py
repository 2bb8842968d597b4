"""The cases of the gauge: each runs commands of one side and returns what to compare.

Recipes follow configs/toy, with a few updates. Option names are those of the old commit; the new one must accept them.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gauge_compare import cache_facts, export_facts, run_facts
from gauge_side import Side, write_config

Facts = dict[str, Any]
SOURCES = {"winners": "winners", "pairs": "pairs.jsonl", "labels": "labels.jsonl"}
SAMPLES = {"scheduler": "ddim", "steps": 3, "guidance_scale": 1.5, "batch_size": 3}
LOOP = {"iterations": 3, "updates": 2, "batch_size": 4, "micro_batch_size": 2, "checkpoint_every": 3}
OPTIMIZER = {"lr": 1e-3, "schedule": "linear", "warmup_updates": 2}


def _recipe(side: Side, kind: str, form: str, method: dict, **sections: dict) -> dict:
    """A config without `run`; `sections` add to its sections."""
    data = {"source": str(side.data / kind / SOURCES[form]), "cache": str(side.here / "cache" / kind / form)}
    size = {"height": 16, "width": 16, "prefetch": 0, "caption_dropout": 0.1, "form": form}
    model = {"base": str(side.here / "base" / kind)}
    if kind == "video":
        size |= {"frames": 8}
        model |= {"motion_adapter": str(side.here / "base" / "motion"), "schedule": "base"}
    else:
        size |= {"flip": True}
    recipe = {"model": model, "data": data | size, "method": method, "loop": LOOP, "optimizer": OPTIMIZER}
    if method["name"] in ("seppo", "ditto", "spin"):
        recipe["reference_samples"] = SAMPLES
    return recipe | {name: recipe.get(name, {}) | values for name, values in sections.items()}


def _prepare(side: Side, kind: str, name: str, recipe: dict) -> Path:
    """Writes the config, prepares its cache if this side has not yet, and returns the config's path."""
    config = write_config(side.here / "configs" / f"{name}.yaml", recipe | {"run": str(side.here / "runs" / name)})
    cache = recipe["data"]["cache"]
    side.once(("cache", cache), lambda: side.command(f"seppo_{kind}", ["prepare", str(config)]))
    return config


def _run(side: Side, kind: str, name: str, recipe: dict, processes: int = 1) -> Path:
    """Trains to the end, once for all cases that share the run, and returns the run's folder."""
    config = _prepare(side, kind, name, recipe)
    command = ["train", str(config)]
    side.once(("run", name), lambda: side.command(f"seppo_{kind}", command, processes=processes))
    return side.here / "runs" / name


def _seppo(side: Side) -> dict:
    return _recipe(side, "image", "winners", {"name": "seppo", "beta": 20})


def _lora(side: Side) -> dict:
    return _recipe(side, "image", "winners", {"name": "seppo", "beta": 20}, tune={"mode": "lora", "rank": 4})


def _cache(side: Side, kind: str, form: str) -> Facts:
    method = {"winners": {"name": "sft"}, "pairs": {"name": "dpo", "beta": 20}, "labels": {"name": "kto", "beta": 20}}
    recipe = _recipe(side, kind, form, method[form])
    _prepare(side, kind, f"cache_{kind}_{form}", recipe)
    return cache_facts(Path(recipe["data"]["cache"]))


def cache(side: Side) -> Facts:
    """Caches of image winners, pairs and labels: fingerprint, settings and tensors."""
    return {form: _cache(side, "image", form) for form in SOURCES}


def cache_video(side: Side) -> Facts:
    """The cache of video winners: fingerprint, settings and tensors."""
    return _cache(side, "video", "winners")


def image_seppo(side: Side) -> Facts:
    """SePPO on images, full weights, three iterations."""
    return run_facts(_run(side, "image", "seppo", _seppo(side)))


def image_batch(side: Side) -> Facts:
    """SePPO with one sign per batch."""
    method = {"name": "seppo", "beta": 20, "anchor_per": "batch"}
    return run_facts(_run(side, "image", "batch", _recipe(side, "image", "winners", method)))


def image_kto(side: Side) -> Facts:
    """Diffusion-KTO on labelled items."""
    return run_facts(_run(side, "image", "kto", _recipe(side, "image", "labels", {"name": "kto", "beta": 50})))


def image_dpo_guard(side: Side) -> Facts:
    """Diffusion-DPO on pairs with the winner-preserving guard."""
    method = {"name": "dpo", "beta": 20, "guard": 0.5}
    return run_facts(_run(side, "image", "dpo_guard", _recipe(side, "image", "pairs", method)))


def image_lora(side: Side) -> Facts:
    """SePPO with a LoRA, three iterations."""
    return run_facts(_run(side, "image", "lora", _lora(side)))


def video_seppo(side: Side) -> Facts:
    """SePPO on clips (AnimateDiff)."""
    recipe = _recipe(side, "video", "winners", {"name": "seppo", "beta": 20}, loop={"iterations": 2})
    return run_facts(_run(side, "video", "video_seppo", recipe))


def gloo(side: Side) -> Facts:
    """SePPO on images in two processes."""
    return run_facts(_run(side, "image", "gloo", _seppo(side), processes=2))


def export(side: Side) -> Facts:
    """Exported bytes: the full pipeline, a LoRA, and a LoRA merged into the pipeline."""
    facts = {}
    for name, recipe, kind in (("seppo", _seppo, "full"), ("lora", _lora, "lora"), ("lora", _lora, "full")):
        _run(side, "image", name, recipe(side))
        out = side.here / "export" / f"{name}-{kind}"
        words = ["export", str(side.here / "configs" / f"{name}.yaml"), "--kind", kind, "--out", str(out)]
        side.command("seppo_image", words)
        facts[f"{name} {kind}"] = export_facts(out)
    return facts


def resume(side: Side) -> Facts:
    """The new side stops a run by SIGTERM and continues it; the old side runs it undisturbed."""
    if side.is_old:
        return image_seppo(side)
    config, run = _prepare(side, "image", "stopped", _seppo(side)), side.here / "runs" / "stopped"
    side.command("seppo_image", ["train", str(config)], stop_at=run / "metrics.jsonl")
    side.command("seppo_image", ["train", str(config)])
    return run_facts(run)


def old_run(side: Side) -> Facts:
    """The new side continues a run that the old one left half-finished; the old side also runs it undisturbed."""
    recipe, run, cache = _seppo(side), side.here / "runs" / "half", side.here / "cache" / "half"
    recipe["data"]["cache"] = str(cache)
    if side.is_old:
        config = _prepare(side, "image", "half", recipe)
        side.command("seppo_image", ["train", str(config)], stop_at=run / "metrics.jsonl")
        return image_seppo(side)
    shutil.copytree(side.old / "runs" / "half", run)
    shutil.copytree(side.old / "cache" / "half", cache)
    side.command("seppo_image", ["train", str(_prepare(side, "image", "half", recipe))])
    return run_facts(run)


def old_cache(side: Side) -> Facts:
    """The new side trains on the caches that the old one prepared, and `prepare` finds them finished."""
    recipes = {
        "seppo": ("winners", {"name": "seppo", "beta": 20}),
        "kto": ("labels", {"name": "kto", "beta": 50}),
        "dpo_guard": ("pairs", {"name": "dpo", "beta": 20, "guard": 0.5}),
    }
    facts = {}
    for name, (form, method) in recipes.items():
        recipe = _recipe(side, "image", form, method)
        run = name
        if not side.is_old:
            run = f"old_cache_{name}"
            place = side.here / "old_cache" / form
            shutil.copytree(side.old / "cache" / "image" / form, place)
            recipe["data"]["cache"] = str(place)
        facts[name] = run_facts(_run(side, "image", run, recipe))
    return facts


CASES: dict[str, Callable[[Side], Facts]] = {
    case.__name__: case
    for case in (
        cache, cache_video, image_seppo, image_batch, image_kto, image_dpo_guard, image_lora, video_seppo, gloo,
        export, resume, old_run, old_cache,
    )
}  # fmt: skip
