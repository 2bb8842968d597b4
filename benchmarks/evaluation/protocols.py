"""Named ways of measuring: which prompts, how samples are drawn, which metrics, and what of it is assumed."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seppo_core.config.method import SchedulerName
from seppo_core.judging.columns import Kind

SeedMode = Literal["per_prompt", "sequential"]
DType = Literal["float32", "bfloat16", "float16"]

OWN = "own"

BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class KnownSet:
    """A published prompt set: where to get it, and how to recognise a file that holds it."""

    name: str
    rows: int
    address: str
    licence: str
    texts_sha256: str | None = None
    """Hash of all texts in order (`PromptSet.sha256`); None if no file was at hand to take it from."""
    bundled: str | None = None
    """File in this package; the others have to be given."""


SETS = {
    known.name: known
    for known in (
        KnownSet(
            "pickapic-validation",
            500,
            "yuvalkirstain/pickapic_v2_no_images on the hub, split validation_unique, field caption (taken down in "
            "2025; copies exist)",
            "none stated",
        ),
        KnownSet(
            "hpsv2-benchmark",
            3200,
            "ymhao/HPDv2 on the hub, the folder with the four lists anime, concept-art, paintings and photo",
            "Apache-2.0",
        ),
        KnownSet(
            "partiprompts",
            1632,
            "google-research/parti, PartiPrompts.tsv",
            "Apache-2.0",
            "496fc70361a13dbae196d133a7b92b4c81c2f6c78a558d086983fd7684de7487",
        ),
        KnownSet(
            "chronomagic-150",
            150,
            "PKU-YuanGroup/ChronoMagic-Bench, Captions_ChronoMagic-Bench-150.csv",
            "Apache-2.0",
            "bc87fb76c95c2a0637d2454c3138312f654fd6355b6ba070ca2f7392caf22e47",
        ),
        KnownSet(OWN, 0, "you", "yours"),
        KnownSet("smoke-image", 16, "this repository", "Apache-2.0", bundled="smoke-image.jsonl"),
        KnownSet("smoke-video", 16, "this repository", "Apache-2.0", bundled="smoke-video.jsonl"),
    )
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything a number depends on but the model, the device and the versions of libraries."""

    name: str
    what: str
    kind: Kind
    sets: tuple[str, ...]
    """Prompt sets that it is defined for, the first unless told otherwise."""
    metrics: tuple[str, ...]
    height: int = 512
    width: int = 512
    frames: int = 1
    steps: int = 50
    scheduler: SchedulerName = "default"
    """default is the model's own."""
    guidance_scale: float = 7.5
    seeds: tuple[int, ...] = (0,)
    """One sample per prompt and seed."""
    seed_mode: SeedMode = "per_prompt"
    """per_prompt: noise by prompt and seed, shared by all models and independent of order. sequential: one generator
    runs on from prompt to prompt, as in the authors' script."""
    dtype: DType = "float16"
    """Dtype of the model on a GPU; on a CPU it is float32."""
    references: bool = False
    """Whether metrics compare with real clips of the same prompts."""
    group_size: int | None = None
    """Prompts per group of a published mean-of-groups statistic, within each value of the first category."""
    assumed: tuple[tuple[str, str], ...] = ()
    """Choices that the paper leaves open, and why they are as they are."""
    differs: tuple[str, ...] = ()
    """How it differs from what the paper (or the benchmark) did."""

    def settings(self) -> dict[str, object]:
        """The settings that decide the samples."""
        names = ("kind", "height", "width", "frames", "steps", "scheduler", "guidance_scale", "seeds", "seed_mode")
        values = {name: vars(self)[name] for name in names}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


IMAGE_METRICS = ("pickscore_cos", "hps_v2.0", "image_reward", "aesthetic")
"""The metrics that the paper reports for images."""
MORE_IMAGE_METRICS = (*IMAGE_METRICS, "hps_v2.1", "clip_score")
PAIRED = ("psnr", "ssim", "lpips_alex")
SET_METRICS = ("fid[clean]", "kid[clean]", "fvd[styleganv,16f]", "kvd[styleganv,16f]")
CLIP_METRICS = ("temporal_flickering", "subject_consistency", "background_consistency")

AUTHORS = (
    "Noise: the authors run one CUDA generator on from prompt to prompt, so that every image depends on the order of "
    "the prompts; here each prompt has its own seed unless --seed-mode sequential is given.",
    "Latents: the authors' pipeline keeps them in float16 between steps, here they are float32.",
    "Versions: the authors pin diffusers 0.20.0 and transformers 4.30.2; those used here are under provenance.",
    "HPSv2: the authors' torch resizes without antialias, here with it; --metrics hps_v2.0_noantialias does as theirs.",
)
AUTHORS_ASSUMED = (("height, width", "512 × 512 for SD-1.5 is deduced from the base, not stated"),)
T2V_ASSUMED = (
    ("frames", "16 frames of each reference clip, spread evenly: round(i (L − 1) / 15)"),
    ("pixels", "short side to size, centre crop, for references; samples are drawn at that size"),
    ("steps, guidance_scale, scheduler", "DDIM, 25 steps, 7.5: not stated"),
    ("psnr, ssim, lpips_alex", "frame i of the sample against frame i of the reference; AlexNet for LPIPS"),
    ("fid[clean]", "over all frames of all clips; clean-fid's resize"),
    ("fvd[styleganv,16f]", "I3D logits, short side to 224 and crop; which variant the paper used is not stated"),
)
T2V_DIFFERS = (
    "The paper names its metrics and data set and nothing else: every number rests on the assumptions above.",
    "Likeness to one real clip says little of open-ended generation; preference and motion metrics stand beside it.",
)


def _t2v(name: str, size: int) -> Protocol:
    return Protocol(
        name=name,
        what=f"The paper's Table 3: ChronoMagic-Bench-150 against the real clips, {size} × {size}, 16 frames",
        kind="video",
        sets=("chronomagic-150",),
        metrics=(*PAIRED, *SET_METRICS, "pickscore_cos", *CLIP_METRICS),
        height=size,
        width=size,
        frames=16,
        steps=25,
        scheduler="ddim",
        references=True,
        assumed=(("height, width", f"{size} × {size}: the paper trains at 256 × 256 and does not say"), *T2V_ASSUMED),
        differs=T2V_DIFFERS,
    )


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="seppo-t2i-sd15",
            what="The authors' script on SD-1.5: one image per prompt, default solver, guidance 7.5",
            kind="image",
            sets=("pickapic-validation", "hpsv2-benchmark", "partiprompts"),
            metrics=IMAGE_METRICS,
            assumed=AUTHORS_ASSUMED,
            differs=AUTHORS,
        ),
        Protocol(
            name="seppo-t2i-sdxl",
            what="The authors' script on SDXL: one image per prompt, default solver, guidance 5",
            kind="image",
            sets=("pickapic-validation", "hpsv2-benchmark", "partiprompts"),
            metrics=IMAGE_METRICS,
            height=1024,
            width=1024,
            guidance_scale=5.0,
            assumed=(("height, width", "1024 × 1024, the base's own; the paper has no SDXL row"),),
            differs=AUTHORS,
        ),
        _t2v("seppo-t2v", 256),
        _t2v("seppo-t2v-512", 512),
        Protocol(
            name="hpsv2-benchmark",
            what="HPSv2's benchmark: four styles of 800 prompts, mean of ten groups of 80 and their deviation",
            kind="image",
            sets=("hpsv2-benchmark",),
            metrics=("hps_v2.0", "hps_v2.1", "pickscore_cos", "image_reward", "aesthetic"),
            group_size=80,
            differs=("Images are scored from lossless PNG; the benchmark's own script writes JPEG first.",),
        ),
        Protocol(
            name="partiprompts",
            what="PartiPrompts by category and challenge",
            kind="image",
            sets=("partiprompts",),
            metrics=MORE_IMAGE_METRICS,
        ),
        Protocol(
            name="pickapic-validation",
            what="Pick-a-Pic validation_unique, four samples per prompt",
            kind="image",
            sets=("pickapic-validation",),
            metrics=MORE_IMAGE_METRICS,
            seeds=(0, 1, 2, 3),
            differs=("Four samples per prompt, where the authors draw one.",),
        ),
        Protocol(
            name="chronomagic-150",
            what="ChronoMagic-Bench-150, three samples per prompt, judged without reference clips",
            kind="video",
            sets=("chronomagic-150",),
            metrics=("pickscore_cos", "image_reward", "aesthetic", *CLIP_METRICS),
            frames=16,
            steps=25,
            guidance_scale=8.5,
            seeds=(0, 1, 2),
            assumed=(("height, steps, guidance_scale", "512 × 512, 25 steps, 8.5: MagicTime's own sampling"),),
            differs=("MTScore and CHScore, the benchmark's own judges, are plug-ins (docs/judges.md).",),
        ),
        Protocol(
            name=OWN,
            what="Prompts, models and pictures of your own",
            kind="image",
            sets=(OWN,),
            metrics=MORE_IMAGE_METRICS,
        ),
        Protocol(
            name=f"{OWN}-video",
            what="Prompts, models and clips of your own",
            kind="video",
            sets=(OWN,),
            metrics=("pickscore_cos", "image_reward", "aesthetic", *CLIP_METRICS),
            frames=16,
            steps=25,
        ),
        Protocol(
            name="smoke-image",
            what="Sixteen prompts of our own on tiny models made in place: does every part work?",
            kind="image",
            sets=("smoke-image",),
            metrics=("clip_score_x1_signed", "psnr", "ssim"),
            height=16,
            width=16,
            steps=2,
            guidance_scale=2.0,
            seeds=(0, 1),
            dtype="float32",
            references=True,
            differs=("The models and the judge are random: the numbers mean nothing.",),
        ),
        Protocol(
            name="smoke-video",
            what="The same for clips",
            kind="video",
            sets=("smoke-video",),
            metrics=("temporal_flickering", "psnr", "ssim", "clip_score_x1_signed"),
            height=16,
            width=16,
            frames=8,
            steps=2,
            guidance_scale=2.0,
            dtype="float32",
            references=True,
            differs=("The models and the judge are random: the numbers mean nothing.",),
        ),
    )
}  # fmt: skip
"""Protocols by name. `smoke` on the command line is smoke-image and then smoke-video."""


def changed(protocol: Protocol) -> dict[str, object]:
    """Fields in which a protocol differs from the one of its name, with their values; empty for a protocol as named."""
    named = PROTOCOLS[protocol.name]
    if is_own(protocol.name):
        return {}
    return {
        field.name: vars(protocol)[field.name]
        for field in dataclasses.fields(Protocol)
        if field.name != "metrics" and vars(protocol)[field.name] != vars(named)[field.name]
    }


def label(protocol: Protocol, prompt_set: str, limit: int | None = None, published: bool | None = True) -> str:
    """How rows measured so are called: name, prompt set if there is a choice, and whatever was changed.

    `published` says whether the prompts are those that the set's name stands for; None if that is not known.
    """
    if is_own(protocol.name):
        return f"{protocol.name} ({prompt_set}{'' if limit is None else f', first {limit} prompts'})"
    parts = [] if len(PROTOCOLS[protocol.name].sets) == 1 else [prompt_set]
    parts += [f"{name}={_shown(value)}" for name, value in changed(protocol).items() if name != "sets"]
    parts += [] if limit is None else [f"first {limit} prompts"]
    parts += {True: [], False: ["other prompts"], None: ["prompts not checked"]}[published]
    return f"{protocol.name} ({', '.join(parts)})" if parts else protocol.name


def is_own(name: str) -> bool:
    """Whether a protocol is no published one, but whatever its settings are."""
    return name.split("-")[0] == OWN


def protocol_named(name: str) -> Protocol:
    """ValueError that names the protocols there are, for one that does not exist."""
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; there are smoke, {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def with_changes(protocol: Protocol, changes: Mapping[str, object]) -> Protocol:
    """`protocol` with the values of `changes` that are not None."""
    return dataclasses.replace(protocol, **{name: value for name, value in changes.items() if value is not None})


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
