"""The workshop's pictures in every form that a method learns from, and configs of runs on them."""

import json
from dataclasses import replace
from pathlib import Path

from seppo_core.config.method import MethodConfig
from seppo_image import commands
from tests.workshop import Workshop


def make_caches(workshop: Workshop, root: Path) -> dict[str, Path]:
    """The workshop's pictures as winners, as pairs with the next picture, and labelled, each by the real `prepare`."""
    rows = [json.loads(line) for line in (workshop.source / "metadata.jsonl").read_text().splitlines()]
    tables = {
        "pairs": [row | {"loser_file_name": rows[(i + 1) % len(rows)]["file_name"]} for i, row in enumerate(rows)],
        "labels": [row | {"label": i % 2} for i, row in enumerate(rows)],
        "prompts": rows,
    }
    caches = {"winners": workshop.cache}
    for form, table in tables.items():
        source = root / form
        source.mkdir()
        for row in rows:
            (source / row["file_name"]).symlink_to(workshop.source / row["file_name"])
        (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
        caches[form] = root / f"{form}-cache"
        commands.prepare(of_form(workshop.config(root / "unused"), source, caches[form], form))
    return caches


def data_of(config, source, cache, form):
    flip = config.data.flip and form != "prompts"
    return replace(config.data, source=str(source), cache=str(cache), supervision=form, flip=flip)


def of_form(config, source, cache, form):
    judge = "tests.judges:redness" if form == "prompts" else None
    loop = replace(config.loop, judge=judge)
    return replace(config, data=data_of(config, source, cache, form), loop=loop)


def config_of(workshop, caches, run: Path, method: MethodConfig, mode: str = "lora", micro: int = 2):
    config = workshop.config(run, mode)
    form = method.spec.supervision
    config = replace(config, loop=replace(config.loop, micro_batch_size=micro))
    return replace(of_form(config, workshop.source, caches[form], form), method=method)
