"""What an export says of itself: a model card in the hub's form, and the config that made it."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from seppo_core.cache.manifest import Manifest
from seppo_core.config.loader import plain, resolved_yaml
from seppo_core.config.schema import Config
from seppo_core.export.snippets import quoted, script
from seppo_core.io.lazy import import_object
from seppo_core.models.adapter import Adapter
from seppo_core.run.folder import environment
from seppo_core.run.history import read_metrics

UNKNOWN = "unknown"
EXPORTED = {"lora": "LoRA", "motion": "motion modules", "full": "whole pipeline"}
SHOWN = ("loss", "winner_error", "winner_gap", "share_s_plus", "implicit_accuracy", "grad_norm")
"""Of the run's metrics, as means over its last updates."""
LAST = 20


def write_card(folder: Path, config: Config, adapter: Adapter, kind: str, checkpoint: str) -> None:
    """README.md (the card) and config.yaml beside what was exported into `folder`."""
    (folder / "README.md").write_text(model_card(config, adapter, kind, checkpoint), encoding="utf-8")
    (folder / "config.yaml").write_text(resolved_yaml(config), encoding="utf-8")


def model_card(config: Config, adapter: Adapter, kind: str, checkpoint: str) -> str:
    """Base, code to use it, method, data, settings, metrics and licence in Markdown, the hub's metadata in front.

    `adapter` is the run's own, which knows the code.
    """
    m, spec, base, loop = config.method, config.method.spec, config.model.base, config.loop
    licence = licence_of(base, config.model.revision)
    is_clips = config.data.frames > 1
    parts = _parts(config)
    began = "".join(f", with the {name} `{_name(part)}`" for name, part in parts.items() if name != "base")
    # another autoencoder is no model that this one comes from
    models = [part for name, part in parts.items() if name != "vae" and not Path(part).exists()]
    data = ModelCardData(
        # a folder of this machine is no model of the hub's
        base_model=(models if len(models) > 1 else models[0]) if models else None,
        license=None if licence == UNKNOWN else licence,
        library_name="diffusers",
        pipeline_tag="text-to-video" if is_clips else "text-to-image",
        tags=["preference-alignment", m.name, *(["lora"] if kind == "lora" else [])],
    )
    settings = {
        "method": f"{m.name} ({spec.source})",
        **{key: value for key, value in plain(m).items() if key not in ("name", "reference", "pool_window")},
        "reference": m.strategy if m.pool_window is None else f"{m.strategy} of the newest {m.pool_window}",
        "second sample": spec.counterpart,
        "trained": f"{config.tune.mode}, {config.tune.scope}"
        + (f", rank {config.tune.rank}" if config.tune.mode == "lora" else ""),
        "iterations x updates x batch": f"{loop.iterations} x {loop.updates_per_iteration} x {loop.batch_size}",
        "optimiser": f"{config.optimizer.name}, lr {config.optimizer.lr:g}, {config.optimizer.schedule}",
        "precision": config.loop.mixed_precision,
        "size": f"{config.data.height} x {config.data.width}" + (f", {config.data.frames} frames" if is_clips else ""),
        "seed": config.seed,
    }
    lines = [
        f"# {Path(base).name} aligned with {m.name}",
        "",
        f"The {EXPORTED[kind]} of `{checkpoint}` of a run that started from `{_name(base)}`{began}. "
        "`config.yaml` has every setting.",
        "",
        "```python",
        usage_code(config, adapter, kind),
        "```",
        "",
        *_licence_lines(config, licence),
        "",
        "## Training",
        "",
        *_table("setting", "value", {name: value for name, value in settings.items() if value is not None}),
        "",
        "## Data",
        "",
        *_data_lines(config),
        "",
        "## Metrics of training",
        "",
        *_metric_lines(Path(config.run), checkpoint),
        "",
        "These watch the training; they say nothing of quality. Score samples to know that.",
        "",
        "## Made with",
        "",
        ", ".join(f"{name} {value}" for name, value in environment().items() if value and name != "started") + ".",
        "",
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines)


def usage_code(config: Config, adapter: Adapter, kind: str) -> str:
    """Python that makes `pipe` of the export: "FOLDER" is where it lies, "BASE" and the like a folder of this machine.

    Whatever was loaded for the run is loaded again: base and branch, VAE, motion.
    """
    parts = _parts(config)
    versions = {"revision": config.model.revision, "variant": config.model.variant}
    sources = parts | {name: value for name, value in versions.items() if value is not None}
    code = script(import_object(config.model.spec.usage)(adapter, kind, sources))
    for name, part in parts.items():
        if Path(part).exists():
            code = code.replace(quoted(part), quoted(name.upper()))
    return code


def _parts(config: Config) -> dict[str, str]:
    """What the run was loaded from, by key of `model`."""
    return {key.removeprefix("model."): part for key, part in config.weight_paths().items() if part is not None}


def _name(part: str) -> str:
    return Path(part).name if Path(part).exists() else part


def _licence_lines(config: Config, base: str) -> list[str]:
    """The base's, and beneath it those of what was put into it."""
    licences = {"base": base} | {name: licence_of(part) for name, part in _parts(config).items() if name != "base"}
    lines = [
        f"Licence of the {name}: {licence}" + ("; see where it comes from." if licence == UNKNOWN else ".")
        for name, licence in licences.items()
    ]
    # each a paragraph of its own
    return [part for line in lines for part in (line, "")][:-1]


def licence_of(base: str, revision: str | None = None) -> str:
    """The licence that the base's own card names, or "unknown" where there is none or it cannot be reached."""
    readme = Path(base) / "README.md"
    if Path(base).exists() and not readme.is_file():
        return UNKNOWN
    try:
        card = ModelCard.load(str(readme) if readme.is_file() else base, ignore_metadata_errors=True)
    # the export must not fail for the want of a licence's name
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError):
        return UNKNOWN
    return card.data.license_name or card.data.license or UNKNOWN


def _data_lines(config: Config) -> list[str]:
    try:
        manifest = Manifest.read(Path(config.data.cache))
    except (OSError, ValueError):
        return [f"`{Path(config.data.source).name}`; its cache is not here any more."]
    counted = f"{manifest.items} {'pairs' if manifest.form == 'pairs' else 'items'} ({manifest.form})"
    return [
        f"`{Path(config.data.source).name}`: {counted} with {manifest.captions} distinct captions, "
        f"{manifest.rejected} rejected; fingerprint `{manifest.fingerprint[:16]}`."
    ]


def _metric_lines(run: Path, checkpoint: str) -> list[str]:
    done = checkpoint.removeprefix("update-")
    upto = [line for line in read_metrics(run) if not done.isdecimal() or line["update"] <= int(done)]
    last = upto[-LAST:]
    means = {
        name: f"{sum(values) / len(values):.4g}"
        for name in SHOWN
        if (values := [line[name] for line in last if line.get(name) is not None])
    }
    if not means:
        return ["None were kept."]
    first, end = last[0]["update"], last[-1]["update"]
    return [*_table("metric", f"mean of updates {first} to {end}", means)]


def _table(left: str, right: str, rows: dict) -> list[str]:
    return [f"| {left} | {right} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
