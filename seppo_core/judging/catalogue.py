"""Every image scorer by the name of its column, with what it needs; nothing is loaded to look at it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from seppo_core.judging import aesthetic, clip_score, hpsv2, image_reward, open_clip_score, pickscore
from seppo_core.judging.base import Scorer
from seppo_core.judging.tokenize import CLIP_H_TOKENIZER
from seppo_core.judging.weights import Source


class HasSources(Protocol):
    """An entry of a catalogue of metrics, with the files that the metric reads."""

    @property
    def sources(self) -> Sequence[Source]: ...


@dataclass(frozen=True)
class Package:
    """Something importable beyond the base install."""

    name: str
    """As it is imported."""
    distribution: str
    """As it is installed."""
    licence: str
    why: str
    required: bool = True


FTFY = Package("ftfy", "ftfy", "Apache-2.0", "for prompts that are not plain ASCII", required=False)
OPEN_CLIP = Package("open_clip", "open-clip-torch", "MIT", "which has the models; it needs torchvision")


@dataclass(frozen=True)
class Entry:
    """One column: what it says, what it reads, how to load it."""

    what: str
    source: str
    """Paper or repository that defines it."""
    sources: tuple[Source, ...]
    load: Callable[..., Scorer]
    packages: tuple[Package, ...] = ()


def _hps(version: hpsv2.Version, what: str, antialias: bool = True) -> Entry:
    load = partial(hpsv2.HPSv2.load, version=version, antialias=antialias)
    return Entry(what, "Wu et al. 2023", (hpsv2.WEIGHTS[version], CLIP_H_TOKENIZER), load, (FTFY,))


_NAMED: dict[str, Entry] = {
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
    "hps_v2.0": _hps("2.0", "Human Preference Score v2.0, a cosine (published ×100)"),
    "hps_v2.1": _hps("2.1", "Human Preference Score v2.1, a cosine; not comparable with v2.0"),
    "hps_v2.0_noantialias": _hps(
        "2.0", "HPS v2.0 on pictures shrunk without antialias, as torchvision before 0.17 did: the papers' time", False
    ),
    "hps_v2.1_noantialias": _hps("2.1", "HPS v2.1 on pictures shrunk without antialias", False),
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


ANY_OPEN_CLIP = "open_clip_score[MODEL:TAG]"
"""How columns are called that are not listed: MODEL and TAG as open_clip names them, TAG if its files need one."""


class Catalogue(Mapping[str, Entry]):
    """The named columns, and those of `ANY_OPEN_CLIP`, which are found but not listed: there are hundreds.

    Where open-clip-torch is installed, a model or tag that it does not know is a ValueError.
    """

    def __getitem__(self, column: str) -> Entry:
        if column in _NAMED:
            return _NAMED[column]
        if not (found := open_clip_score.COLUMN.fullmatch(column)):
            raise KeyError(column)
        model, tag = found.groups()
        return Entry(
            f"CLIPScore, 100·max(cosine, 0) in open_clip's {model}" + (f" ({tag})" if tag else ""),
            "Hessel et al. 2021",
            (open_clip_score.weights_of(model, tag),),
            partial(open_clip_score.OpenCLIPScore.load, model=model, tag=tag),
            (OPEN_CLIP,),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMED)

    def __len__(self) -> int:
        return len(_NAMED)


SCORERS = Catalogue()


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
        raise ValueError(f"no scorer {column!r}; there are {', '.join([*SCORERS, ANY_OPEN_CLIP])}")
    return SCORERS[column]


def parse_locations(
    given: Iterable[str], option: str, *catalogues: Mapping[str, HasSources]
) -> dict[str, dict[str, str]]:
    """{metric: {part: location}} from `metric.part=location` items of the command-line `option`.

    Raises ValueError for another form, and for a metric or part that no catalogue has.
    """
    found: dict[str, dict[str, str]] = {}
    for item in given:
        name, equals, location = item.partition("=")
        # names of metrics have dots of their own (hps_v2.1)
        metric, dot, part = name.rpartition(".")
        if not equals or not dot or not location:
            raise ValueError(
                f"{option} {item!r} should be METRIC.PART=PLACE, e.g. pickscore.weights=/data/PickScore_v1"
            )
        entry = next((catalogue[metric] for catalogue in catalogues if metric in catalogue), None)
        if entry is None:
            known = ", ".join([*(name for catalogue in catalogues for name in catalogue), ANY_OPEN_CLIP])
            raise ValueError(f"{option} {item!r}: no metric {metric!r}; there are {known}")
        if part not in (parts := [source.part for source in entry.sources]):
            raise ValueError(f"{option} {item!r}: {metric} reads {', '.join(parts) or 'no files'}")
        found.setdefault(metric, {})[part] = location
    return found
