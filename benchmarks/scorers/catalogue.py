"""Every image scorer by the name of its column, with what it needs; nothing is loaded to look at it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.scorers import aesthetic, clip_score, hpsv2, image_reward, pickscore
from benchmarks.scorers.base import Scorer
from benchmarks.scorers.prompts import CLIP_H_TOKENIZER
from benchmarks.scorers.weights import Source


@dataclass(frozen=True)
class Entry:
    """One column: what it says, what it reads, how to load it."""

    what: str
    source: str
    """Paper or repository that defines it."""
    sources: tuple[Source, ...]
    load: Callable[..., Scorer]
    packages: tuple[str, ...] = ()
    """Importable names beyond the base install; a scorer works without them for plain ASCII prompts."""


SCORERS: dict[str, Entry] = {
    "pickscore_cos": Entry(
        "PickScore v1 as a cosine, as the paper's tables have it (there ×100)",
        "Kirstain et al. 2023",
        (pickscore.WEIGHTS, CLIP_H_TOKENIZER),
        pickscore.PickScore.load,
    ),
    "pickscore": Entry(
        "PickScore v1 scaled by its temperature; differences are log odds",
        "Kirstain et al. 2023",
        (pickscore.WEIGHTS, CLIP_H_TOKENIZER),
        partial(pickscore.PickScore.load, scaled=True),
    ),
    "hps_v2.0": Entry(
        "Human Preference Score v2.0, a cosine (published ×100)",
        "Wu et al. 2023",
        (hpsv2.WEIGHTS["2.0"], CLIP_H_TOKENIZER),
        hpsv2.HPSv2.load,
        ("ftfy",),
    ),
    "hps_v2.1": Entry(
        "Human Preference Score v2.1, a cosine; not comparable with v2.0",
        "Wu et al. 2023",
        (hpsv2.WEIGHTS["2.1"], CLIP_H_TOKENIZER),
        partial(hpsv2.HPSv2.load, version="2.1"),
        ("ftfy",),
    ),
    "image_reward": Entry(
        "ImageReward v1.0, about 0 ± 1; reads 35 tokens",
        "Xu et al. 2023",
        (image_reward.WEIGHTS, image_reward.TOKENIZER),
        image_reward.ImageReward.load,
    ),
    "aesthetic": Entry(
        "LAION aesthetic predictor v2, about 1 to 10; does not read the prompt",
        "Schuhmann 2022",
        (aesthetic.HEADS["v2"], aesthetic.BACKBONE),
        aesthetic.Aesthetic.load,
    ),
    "aesthetic_v1": Entry(
        "LAION aesthetic predictor v1 (linear head)",
        "Schuhmann 2022",
        (aesthetic.HEADS["v1"], aesthetic.BACKBONE),
        partial(aesthetic.Aesthetic.load, version="v1"),
    ),
    "clip_score": Entry(
        "CLIPScore, 100·max(cosine, 0) in OpenAI's ViT-L/14",
        "torchmetrics' convention",
        (clip_score.LARGE,),
        clip_score.CLIPScore.load,
    ),
    "clip_score_x2.5_prefixed": Entry(
        "CLIPScore, 2.5·max(cosine, 0) in OpenAI's ViT-B/32, 'A photo depicts ' before the prompt",
        "Hessel et al. 2021",
        (clip_score.BASE,),
        partial(clip_score.CLIPScore.load, scale=2.5, prefix="A photo depicts ", source=clip_score.BASE),
    ),
    "clip_score_x1_signed": Entry(
        "raw cosine in LAION's ViT-H/14, as measured beside Diffusion-DPO",
        "Wallace et al. 2023",
        (clip_score.HUGE,),
        partial(clip_score.CLIPScore.load, scale=1.0, clamp=False, source=clip_score.HUGE),
    ),
}


def load_scorer(
    column: str,
    places: Mapping[str, str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Scorer:
    """The scorer of one column; `places` gives a file, folder or hub id per part: weights, tokenizer, backbone.

    Raises ValueError for a column or part that does not exist, FileNotFoundError for files that are not there.
    """
    entry = entry_of(column)
    places = dict(places or {})
    parts = [source.part for source in entry.sources]
    if unknown := sorted(places.keys() - set(parts)):
        raise ValueError(f"{column} has no part {unknown[0]!r}; it reads {', '.join(parts)}")
    return entry.load(device=device, dtype=dtype, **places)


def entry_of(column: str) -> Entry:
    """ValueError that names the columns there are, for one that does not exist."""
    if column not in SCORERS:
        raise ValueError(f"no scorer {column!r}; there are {', '.join(SCORERS)}")
    return SCORERS[column]
