"""The settings of the protocol `own`: those that are given, else those of the first model that has any."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evaluation.arguments import Mistake, changes
from benchmarks.evaluation.media_files import media_files
from benchmarks.evaluation.models import ModelSpec, config_in, trained_config
from benchmarks.evaluation.native import native_side
from benchmarks.evaluation.protocols import OWN, PROTOCOLS, Protocol, with_changes
from benchmarks.evaluation.samplers import VIDEO_FAMILIES
from seppo_core.models.loading import pipeline_class
from seppo_video.config import VideoConfig

SIZES = ("height", "width", "frames")
SHOWN = (*SIZES, "steps", "guidance_scale", "scheduler")


def settled(protocol: Protocol, asked: argparse.Namespace, models: Sequence[ModelSpec], out: Path) -> Protocol:
    """`protocol` with the kind and settings of the plan in `out`, else of the first model that has any, and over them
    those that were asked for. Raises Mistake for a part of a model that is not there."""
    plan = out / "plan.json"
    if plan.is_file():
        before = json.loads(plan.read_text(encoding="utf-8"))["protocol"]
        found = {name: before[name] for name in (*SHOWN, "seed_mode")} | {"seeds": tuple(before["seeds"])}
        name = before["name"] if before["name"] in PROTOCOLS else protocol.name
        return with_changes(with_changes(PROTOCOLS[name], found), changes(asked))
    kinds = [kind for spec in models if (kind := _kind(spec)) is not None]
    name = f"{OWN}-video" if protocol.kind == "video" or kinds[:1] == ["video"] else OWN
    found = next(filter(None, map(_settings, models)), {})
    # of an image model that clips are made with, or of a frame of clips
    found = {key: value for key, value in found.items() if key != "frames" or (value > 1) == (name != OWN)}
    settled = with_changes(with_changes(PROTOCOLS[name], found), changes(asked))
    if (settled.frames > 1) != (settled.kind == "video"):
        raise Mistake(f"--frames {settled.frames}: the models make {settled.kind}s")
    return settled


def _kind(spec: ModelSpec) -> str | None:
    """What a model makes, None if that cannot be told."""
    if spec.is_pictures:
        folder = Path(spec.base)
        return "video" if any(media_files(folder, "video")) and not any(media_files(folder, "image")) else "image"
    if spec.is_run:
        return "video" if isinstance(config_in(Path(spec.base)), VideoConfig) else "image"
    try:
        return "video" if spec.part("motion") or pipeline_class(spec.base, spec.revision) in VIDEO_FAMILIES else "image"
    except (FileNotFoundError, ValueError):
        # told of together with all that is missing
        return None


def _settings(spec: ModelSpec) -> dict[str, object]:
    """Size and sampler of a run or an export as it was trained and previewed, or the size that a base is made for."""
    if (config := trained_config(spec)) is not None:
        found = {name: vars(config.data).get(name, 1) for name in SIZES}
        preview = config.preview
        return found | {
            "steps": preview.steps, "guidance_scale": preview.guidance_scale, "scheduler": preview.scheduler
        }  # fmt: skip
    if spec.is_pictures or (side := native_side(spec.base, spec.revision)) is None:
        return {}
    return {"height": side, "width": side}
