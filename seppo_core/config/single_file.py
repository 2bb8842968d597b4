"""Bases in one `.safetensors` file, as most fine-tunes circulate: of what kind one is, by the names of its tensors.

Such a file holds weights in the layout of the first release, without configs and vocabularies. Imports no torch.
"""

import json
import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from seppo_core.config.base_files import (
    CONFIG,
    INDEX,
    file_problem,
    folder_problems,
    json_problems,
    listed,
    parts_of,
    read_index,
    read_json,
)

Header = Mapping[str, list[int]]
"""Shapes of tensors by name."""


@dataclass(frozen=True)
class Layout:
    """A kind of file: the pipeline that it is, whose numbers it has, and where its models stand in it."""

    pipeline: str
    numbers: str
    """Name of the file of architecture numbers, of those that come with each package."""
    marks: tuple[str, ...]
    """Names, one of which every such file holds."""
    denoiser: tuple[str, ...]
    """Beginnings of the names of the denoiser's tensors, the more telling one first."""
    prefixes: Mapping[str, tuple[str, ...]]
    """Of the models that a file may hold beside the denoiser, the beginnings of names; those of no other are read."""
    predicts: bool = True
    """Whether it is known what the denoiser predicts, without the config of a scheduler."""


_UNET = ("model.diffusion_model.",)
_VAE = ("first_stage_model.",)
_FLUX_BLOCK = "double_blocks.0.img_attn.norm.key_norm.scale"
_FLUX = {"marks": (f"model.diffusion_model.{_FLUX_BLOCK}", _FLUX_BLOCK), "denoiser": (*_UNET, ""),
         "prefixes": {"vae": (*_VAE, "vae.")}}  # fmt: skip
LAYOUTS = (
    Layout(
        pipeline="StableDiffusionXLPipeline",
        numbers="stable-diffusion-xl",
        marks=("conditioner.embedders.1.model.ln_final.weight",),
        denoiser=_UNET,
        prefixes={
            "vae": _VAE,
            "text_encoder": ("conditioner.embedders.0.transformer.",),
            "text_encoder_2": ("conditioner.embedders.1.model.",),
        },
    ),
    Layout(
        pipeline="StableDiffusionPipeline",
        numbers="stable-diffusion-v1",
        marks=(
            "cond_stage_model.transformer.text_model.final_layer_norm.weight",
            "cond_stage_model.transformer.final_layer_norm.weight",
        ),
        denoiser=_UNET,
        prefixes={"vae": _VAE, "text_encoder": ("cond_stage_model.transformer.",)},
    ),
    Layout(
        pipeline="StableDiffusionPipeline",
        numbers="stable-diffusion-2-1",
        marks=("cond_stage_model.model.ln_final.weight",),
        denoiser=_UNET,
        prefixes={"vae": _VAE, "text_encoder": ("cond_stage_model.model.",)},
        predicts=False,
    ),
    Layout(pipeline="FluxPipeline", numbers="flux-1-dev", **_FLUX),
)
SCHNELL = "flux-1-schnell"
"""Numbers of a Flux that was distilled without guidance."""
EPSILON_STEP = 875_000
"""The step at which Stable Diffusion 2's first bases, which predict noise, were saved; diffusers tells them by it."""
SCHEDULER = "scheduler/scheduler_config.json"
_NEEDED = {"scheduler": ("_class_name",)}
SUFFIX = ".safetensors"


def read_header(file: Path) -> Header:
    """Shapes of the tensors in a safetensors file. ValueError, with the cure, if it is none or damaged."""
    if file.suffix != SUFFIX:
        raise ValueError(f"{file} is no {SUFFIX} file, and other formats can run code; convert it, or name a folder")
    if (problem := file_problem(file)) is not None:
        raise ValueError(f"{file}: {problem}")
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def layout_of(file: Path, header: Header) -> Layout:
    """The kind of a file. ValueError if it is none that can be taken as a base."""
    for layout in LAYOUTS:
        if any(mark in header for mark in layout.marks) and any(begins(name, layout.denoiser) for name in header):
            step = None if layout.predicts else _step(file)
            if step is None:
                return layout
            return replace(layout, predicts=True, numbers=f"{layout.numbers}{'-base' if step == EPSILON_STEP else ''}")
    folder = "use it as a diffusers folder"
    found = {
        "lora": "is a LoRA; name it as model.lora, beside the base that it was made for",
        "motion_modules.": "holds motion modules; name a motion adapter's folder as model.motion_adapter",
    }
    told = next((text for part, text in found.items() if any(part in name for name in header)), None)
    raise ValueError(f"{file} {told or f'is no whole Stable Diffusion, SDXL or Flux as first released; {folder}'}")


def _step(file: Path) -> int | None:
    """The number of training steps that a file was saved after, if it says so."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        entry = json.loads(opened.read(length)).get("global_step")
        if entry is None or entry["dtype"] not in ("I64", "I32"):
            return None
        opened.seek(8 + length + entry["data_offsets"][0])
        return int.from_bytes(opened.read(int(entry["dtype"][1:]) // 8), "little", signed=True)


def known_layout(file: Path) -> str | None:
    """The pipeline class of the base in a file; None if it is none, which is told when it is checked."""
    try:
        return layout_of(file, read_header(file)).pipeline
    except (OSError, ValueError):
        return None


def begins(name: str, prefixes: tuple[str, ...]) -> bool:
    return name.startswith(prefixes)


def numbers_of(layout: Layout, header: Header) -> str:
    """Name of the file of architecture numbers that describes a file of this kind."""
    guided = any("guidance_in." in name for name in header)
    return SCHNELL if layout.pipeline == "FluxPipeline" and not guided else layout.numbers


def held_parts(layout: Layout, header: Header) -> set[str]:
    """The models that a file holds beside its denoiser."""
    return {part for part, prefixes in layout.prefixes.items() if any(begins(name, prefixes) for name in header)}


def taken_from_folder(layout: Layout, header: Header, index: Mapping, without: Collection[str] = ()) -> dict:
    """Library and class of the components that do not come from the file: vocabularies, and models that it lacks."""
    in_file = {"unet", "transformer", "scheduler"} | held_parts(layout, header)
    return {name: part for name, part in parts_of(index, without).items() if name not in in_file}


def index_of(layout: Layout, header: Header, beside: Path, shipped: Path) -> dict:
    """The index of the pipeline: that of the folder `beside` the file, or the known one."""
    if (beside / INDEX).is_file():
        return read_index(beside)
    return read_json(shipped / f"{numbers_of(layout, header)}.json")["model_index"]


def single_file_problems(file: Path, beside: str | None, shipped: Path, without: Collection[str]) -> list[str]:
    """What keeps the base in `file` from being loaded, each with its cure; `beside` is `model.single_file_config`.

    Raises ValueError if it is no such file at all.
    """
    header = read_header(file)
    layout = layout_of(file, header)
    if beside is None:
        needed = taken_from_folder(layout, header, index_of(layout, header, file, shipped), without)
        return [
            f"it is a single file, which has no vocabularies; name a diffusers folder of its kind, of which "
            f"{listed(needed)} will be used, as model.single_file_config"
        ]
    folder = Path(beside).expanduser()
    if not folder.is_dir():
        return [f"model.single_file_config={beside} is no folder here"]
    if os.path.lexists(folder / INDEX) and (problems := json_problems(folder / INDEX)):
        return [f"model.single_file_config={beside}: {problem}" for problem in problems]
    index = index_of(layout, header, folder, shipped)
    if index["_class_name"] != layout.pipeline:
        return [
            f"model.single_file_config={beside} is a {index['_class_name']}; name a {layout.pipeline}, as the file is"
        ]
    if not layout.predicts and not (folder / SCHEDULER).is_file():
        return [
            "it is a Stable Diffusion 2 that does not say whether it predicts noise or velocity (no global_step); put "
            f"{SCHEDULER} of the base that it was made from, with its prediction_type, into "
            f"model.single_file_config={beside}"
        ]
    parts_by_problem, needed = defaultdict(list), taken_from_folder(layout, header, index, without)
    for name, (library, kind) in parts_of(index, without).items():
        config = folder / SCHEDULER if name == "scheduler" else folder / name / CONFIG
        if name in needed:
            found = folder_problems(folder / name, library, kind)
        else:
            # of what the file holds, a config beside it is used if there is one
            found = json_problems(config, *_NEEDED.get(name, ())) if os.path.lexists(config) else []
        for problem in found:
            parts_by_problem[problem].append(name)
    return [f"model.single_file_config={beside}, {listed(p)}: {problem}" for problem, p in parts_by_problem.items()]
