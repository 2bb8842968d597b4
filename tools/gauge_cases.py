"""The cases of the gauge: each runs commands of one side and returns what to compare.

Recipes follow configs/toy, with a few updates. Option names are those of the old commit; the new one must accept them.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gauge_compare import cache_facts, export_facts, picture_digests, run_facts
from gauge_side import CAPTIONS, Side, write_config

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
    config = write_config(side.config(name), recipe | {"run": str(side.here / "runs" / name)})
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


def _video(side: Side) -> dict:
    return _recipe(side, "video", "winners", {"name": "seppo", "beta": 20}, loop={"iterations": 2})


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
    """SePPO with one sign per batch and a running average of the weights; previews and samples as files."""
    method = {"name": "seppo", "beta": 20, "anchor_per": "batch"}
    preview = {"prompts": CAPTIONS[:2], "every": 3, "per_prompt": 2, "scheduler": "ddim", "steps": 2}
    recipe = _recipe(side, "image", "winners", method, preview=preview, optimizer={"ema_decay": 0.5})
    run, out = _run(side, "image", "batch", recipe), side.here / "samples"
    words = ["--prompts", *CAPTIONS, "--seeds", "0", "3", "--scheduler", "ddpm", "--steps", "3", "--out", str(out)]
    side.command("seppo_image", ["sample", str(side.config("batch")), *words])
    return run_facts(run) | {"previews": picture_digests(run / "previews"), "samples": picture_digests(out)}


def image_kto(side: Side) -> Facts:
    """Diffusion-KTO on labelled items."""
    return run_facts(_run(side, "image", "kto", _recipe(side, "image", "labels", {"name": "kto", "beta": 50})))


def image_dpo_guard(side: Side) -> Facts:
    """Diffusion-DPO on pairs with the winner-preserving guard."""
    method = {"name": "dpo", "beta": 20, "guard": 0.5}
    return run_facts(_run(side, "image", "dpo_guard", _recipe(side, "image", "pairs", method)), signs=False)


def image_lora(side: Side) -> Facts:
    """SePPO with a LoRA, three iterations."""
    return run_facts(_run(side, "image", "lora", _lora(side)))


def video_seppo(side: Side) -> Facts:
    """SePPO on clips (AnimateDiff)."""
    return run_facts(_run(side, "video", "video_seppo", _video(side)))


def gloo(side: Side) -> Facts:
    """SePPO on images in two processes."""
    return run_facts(_run(side, "image", "gloo", _seppo(side), processes=2))


def gloo_sharded(side: Side) -> Facts:
    """The same with the weights sharded between the processes."""
    recipe = _recipe(side, "image", "winners", {"name": "seppo", "beta": 20}, loop={"sharded": True, "iterations": 2})
    return run_facts(_run(side, "image", "gloo_sharded", recipe, processes=2))


def export(side: Side) -> Facts:
    """Exported weights: a full pipeline, a LoRA, a LoRA merged into the pipeline, and a motion adapter."""
    made: list[tuple[str, str, dict, str]] = [
        ("image", "seppo", _seppo(side), "full"),
        ("image", "lora", _lora(side), "lora"),
        ("image", "lora", _lora(side), "full"),
        ("video", "video_seppo", _video(side), "motion"),
    ]
    facts = {}
    for kind, name, recipe, what in made:
        _run(side, kind, name, recipe)
        out = side.here / "export" / f"{name}-{what}"
        side.command(f"seppo_{kind}", ["export", str(side.config(name)), "--kind", what, "--out", str(out)])
        facts[f"{name} {what}"] = export_facts(out)
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
    """The new side continues what the old one left half-finished, of full weights; the old side runs it undisturbed."""
    return _old_run(side, "half", _seppo(side), image_seppo)


def old_lora_run(side: Side) -> Facts:
    """The same with a LoRA."""
    return _old_run(side, "half_lora", _lora(side), image_lora)


def _old_run(side: Side, name: str, recipe: dict, undisturbed: Callable[[Side], Facts]) -> Facts:
    run, cache = side.here / "runs" / name, side.here / "cache" / name
    recipe["data"]["cache"] = str(cache)
    if side.is_old:
        config = _prepare(side, "image", name, recipe)
        side.command("seppo_image", ["train", str(config)], stop_at=run / "metrics.jsonl")
        return undisturbed(side)
    shutil.copytree(side.old / "runs" / name, run)
    shutil.copytree(side.old / "cache" / name, cache)
    side.command("seppo_image", ["train", str(_prepare(side, "image", name, recipe))])
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
        facts[name] = run_facts(_run(side, "image", run, recipe), signs=name == "seppo")
    return facts


def half_cache(side: Side) -> Facts:
    """The new side's `prepare` goes on with the old one's cache of pairs, of which the texts are missing."""
    recipe, half = _recipe(side, "image", "pairs", {"name": "dpo", "beta": 20}), side.here / "cache" / "unfinished"
    if side.is_old:
        facts = _cache(side, "image", "pairs")
        shutil.copytree(recipe["data"]["cache"], half)
        manifest = json.loads((half / "manifest.json").read_text(encoding="utf-8"))
        header = {key: manifest[key] for key in ("format", "version", "fingerprint", "settings")}
        # this is what the old commit leaves if it is killed before it writes the texts
        (half / "prepare.json").write_text(json.dumps(header), encoding="utf-8")
        for name in ("manifest.json", "items.jsonl", "index.safetensors", "rejected.jsonl"):
            (half / name).unlink()
        for path in [*half.glob("text-*.safetensors"), *half.glob("parts/text-*.json")]:
            path.unlink()
        return facts | {"items encoded again": False}
    shutil.copytree(side.old / "cache" / "unfinished", half)
    items = half / "items-00000.safetensors"
    before = items.stat()
    _prepare(side, "image", "half_cache", recipe | {"data": recipe["data"] | {"cache": str(half)}})
    after = items.stat()
    again = (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns)
    return cache_facts(half) | {"items encoded again": again}


CASES: dict[str, Callable[[Side], Facts]] = {
    case.__name__: case
    for case in (
        cache, cache_video, image_seppo, image_batch, image_kto, image_dpo_guard, image_lora, video_seppo, gloo,
        gloo_sharded, export, resume, old_run, old_lora_run, old_cache, half_cache,
    )
}  # fmt: skip
