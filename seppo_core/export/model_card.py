"""The model card of an export, and the config that made it."""

from pathlib import Path
from statistics import mean
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from peft import LoraConfig

from seppo_core.cache.manifest import Manifest
from seppo_core.config.loader import plain, resolved_yaml
from seppo_core.config.schema import Config
from seppo_core.export.comfyui import FILE
from seppo_core.export.snippets import quoted, script
from seppo_core.io.lazy import import_object
from seppo_core.models.adapter import Adapter
from seppo_core.models.tuning import POLICY, lora_layers
from seppo_core.run.folder import environment
from seppo_core.run.history import read_metrics

UNKNOWN = "unknown"
EXPORTED = {"lora": "LoRA", "motion": "motion modules", "full": "whole pipeline"}
SHOWN = ("loss", "winner_error", "held_out_error", "winner_gap", "share_s_plus", "implicit_accuracy", "grad_norm")
"""Metrics of the run that the card shows, as means over its last updates."""
LAST = 20
TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def write_card(
    folder: Path, config: Config, adapter: Adapter, kind: str, checkpoint: str, format: str = "diffusers"
) -> None:
    """Writes README.md (the card) and config.yaml into `folder`, beside the export."""
    (folder / "README.md").write_text(model_card(config, adapter, kind, checkpoint, format), encoding="utf-8")
    (folder / "config.yaml").write_text(resolved_yaml(config), encoding="utf-8")


def model_card(config: Config, adapter: Adapter, kind: str, checkpoint: str, format: str = "diffusers") -> str:
    """The card in Markdown, from the template beside this file, with the metadata of the Hub in front."""
    method, base = config.method, config.model.base
    parts = _parts(config)
    licences = {name: licence_of(part) for name, part in parts.items()}
    # a VAE is not a model that this one derives from, and a local folder is not a model of the Hub
    models = [part for name, part in parts.items() if name != "vae" and not Path(part).exists()]
    metrics = _last_metrics(Path(config.run), checkpoint)
    card = ModelCard.from_template(
        ModelCardData(
            base_model=(models if len(models) > 1 else models[0]) if models else None,
            license=None if licences["base"] == UNKNOWN else licences["base"],
            library_name=format,
            pipeline_tag="text-to-video" if config.data.frames > 1 else "text-to-image",
            tags=["preference-alignment", method.name, *(["lora"] if kind == "lora" else [])],
        ),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        title=Path(base).name,
        method=method.name,
        exported=EXPORTED[kind],
        checkpoint=checkpoint,
        base=_name(base),
        parts={name: _name(part) for name, part in parts.items() if name != "base"},
        code=usage_code(config, adapter, kind) if format == "diffusers" else None,
        call=call_code(config),
        guidance=f"{config.preview.guidance_scale:g}",
        file=FILE,
        strength=_strength(adapter.denoiser.peft_config[POLICY])
        if kind == "lora" and format == "diffusers" and lora_layers(adapter.denoiser)
        else None,
        licences=licences,
        settings=_settings(config),
        source=Path(config.data.source).name,
        manifest=_manifest(config),
        means={name: mean([line[name] for line in lines]) for name in SHOWN if (lines := _with(name, metrics))},
        first=metrics[0]["update"] if metrics else None,
        last=metrics[-1]["update"] if metrics else None,
        versions=environment(),
    )
    return str(card)


def _settings(config: Config) -> dict[str, Any]:
    uses = config.reference_samples.uses
    m, tune, loop, optimizer, data = config.method, config.tune, config.loop, config.optimizer, config.data
    return {
        "method": f"{m.name} ({m.spec.source})",
        **{key: value for key, value in plain(m).items() if key not in ("name", "reference", "pool_window")},
        "reference": m.strategy if m.pool_window is None else f"{m.strategy} of the newest {m.pool_window}",
        "counterpart": m.spec.counterpart,
        "pairs of each own sample": uses if uses > 1 else None,
        "winners chosen by": None if loop.judge is None else f"{loop.judge}, {loop.judge_samples} samples a caption",
        "trained": f"{tune.mode}, {tune.scope}" + (f", rank {tune.rank}" if tune.mode == "lora" else ""),
        "iterations x updates x batch": f"{loop.iterations} x {loop.updates_per_iteration} x {loop.batch_size}",
        "optimiser": f"{optimizer.name}, lr {optimizer.lr:g}, {optimizer.schedule}",
        "precision": loop.mixed_precision,
        "size": f"{data.height} x {data.width}" + (f", {data.frames} frames" if data.frames > 1 else ""),
        "seed": config.seed,
    }


def usage_code(config: Config, adapter: Adapter, kind: str) -> str:
    """Python that loads the export as `pipe`, with all that the run was loaded from: base and branch, VAE, motion.

    "FOLDER" stands for the folder of the export, "BASE" and the like for local folders.
    """
    parts = _parts(config)
    versions = {"revision": config.model.revision, "variant": config.model.variant}
    sources = parts | {name: value for name, value in versions.items() if value is not None}
    code = script(import_object(config.model.spec.usage)(adapter, kind, sources))
    for name, part in parts.items():
        if Path(part).exists():
            code = code.replace(quoted(part), quoted(name.upper()))
    return code


def call_code(config: Config) -> str:
    """Python that draws a sample with `pipe` into a file."""
    data, preview = config.data, config.preview
    prompt = quoted(next(iter(preview.prompts), "a prompt of yours"))
    clip = f", num_frames={data.frames}" if data.frames > 1 else ""
    made = f"pipe({prompt}, height={data.height}, width={data.width}{clip}, num_inference_steps={preview.steps}"
    if not clip:
        return f'{made}).images[0].save("sample.png")'
    milliseconds = round(1000 / vars(config.model)["fps"])
    saved = f'save("sample.gif", save_all=True, append_images=frames[1:], duration={milliseconds}, loop=0)'
    return f'frames = {made}, output_type="pil").frames[0]\nframes[0].{saved}'


def _strength(lora: LoraConfig) -> str | None:
    """What programs that know only a LoRA's tensors must be told; None if they take the right strength anyway."""
    if lora.alpha_pattern or lora.rank_pattern:
        ratio = "differs by layer"
        cure = "they cannot apply it as it is, so export the whole pipeline for them"
    elif lora.lora_alpha != lora.r:
        ratio = f"is {lora.lora_alpha} / {lora.r}"
        cure = f"set the LoRA's strength to {lora.lora_alpha / lora.r:g} there"
    else:
        return None
    return (
        f"Alpha / rank {ratio}, which stands in the file's metadata. diffusers and peft read it; programs that read "
        f"tensors alone, such as ComfyUI, take 1: {cure}."
    )


def _parts(config: Config) -> dict[str, str]:
    """Where the models of the run were loaded from, by key of `model`; the base comes first."""
    return {key.removeprefix("model."): part for key, part in config.weight_paths().items() if part is not None}


def _name(part: str) -> str:
    return Path(part).name if Path(part).exists() else part


def licence_of(base: str) -> str:
    """The licence that the card of `base` names, or "unknown" if there is none or it cannot be reached."""
    readme = Path(base) / "README.md"
    if Path(base).exists() and not readme.is_file():
        return UNKNOWN
    try:
        card = ModelCard.load(str(readme) if readme.is_file() else base, ignore_metadata_errors=True)
    # an export must not fail because a licence is unknown
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError):
        return UNKNOWN
    return card.data.license_name or card.data.license or UNKNOWN


def _manifest(config: Config) -> Manifest | None:
    try:
        return Manifest.read(Path(config.data.cache))
    except (OSError, ValueError):
        return None


def _last_metrics(run: Path, checkpoint: str) -> list[dict]:
    """The metrics before a checkpoint, or before the iteration at whose start a snapshot was taken."""
    kind, _, number = checkpoint.rpartition("-")
    lines = read_metrics(run)
    if number.isdecimal() and kind == "update":
        lines = [line for line in lines if line["update"] <= int(number)]
    elif number.isdecimal() and kind == "snapshot":
        lines = [line for line in lines if line["iteration"] < int(number)]
    return lines[-LAST:]


def _with(name: str, metrics: list[dict]) -> list[dict]:
    return [line for line in metrics if line.get(name) is not None]
