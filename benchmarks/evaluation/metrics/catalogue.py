"""Every clip metric by the name of its column, with what it reads; nothing is loaded to look at it.

Image scorers on frames (`per_frame`) are not listed: they are `seppo_core.judging.SCORERS`, one column each.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from benchmarks.evaluation.metrics import fid_features, fvd_features, lpips, videomae_features
from benchmarks.evaluation.metrics import psnr_ssim as paired
from benchmarks.evaluation.metrics.networks.i3d_geometry import GEOMETRIES
from benchmarks.evaluation.metrics.resize import RESIZES
from benchmarks.evaluation.metrics.set_metrics import Distance, set_column
from seppo_core.judging import vbench_consistency as consistency
from seppo_core.judging.doctor import CURE, Need
from seppo_core.judging.metric import Metric
from seppo_core.judging.weights import Source, locate

Kind = Literal["paired", "clip", "set"]
FRAMES = 16


@dataclass(frozen=True)
class Entry:
    """One column: what it says, who defined it, what it reads, how to load it.

    A `set` metric loads the extractor of its features; `distance` says what is computed from them (`compare_sets`).
    """

    kind: Kind
    what: str
    source: str
    sources: tuple[Source, ...]
    load: Callable[..., Metric]
    better: int = 1
    """+1 if more is better, -1 if less is."""
    distance: Distance | None = None


def _without_weights(make: Callable[[], Metric]) -> Callable[..., Metric]:
    def load(device: str | torch.device = "cpu") -> Metric:
        return make().to(device)

    return load


def _set_entries() -> dict[str, Entry]:
    entries = {}
    papers = {"fid": "Heusel et al. 2017", "kid": "Bińkowski et al. 2018", "fvd": "Unterthiner et al. 2018"}
    distances: tuple[Distance, ...] = ("frechet", "kernel")
    for distance in distances:
        for resize in RESIZES:
            column = set_column(f"inception[{resize}]", distance)
            what = f"{distance} distance of the frames' Inception features"
            load = partial(fid_features.InceptionFeatures.load, resize=resize)
            sources = (fid_features.WEIGHTS,)
            entries[column] = Entry("set", what, papers[column[:3]], sources, load, -1, distance)
    for distance in distances:
        for geometry in (*GEOMETRIES, fvd_features.ORIGINAL):
            column = set_column(f"i3d[{geometry},{FRAMES}f]", distance)
            what = f"{distance} distance of the clips' I3D logits, {FRAMES} frames"
            if geometry == fvd_features.ORIGINAL:
                load, sources = fvd_features.TorchScriptI3DFeatures.load, (fvd_features.TORCHSCRIPT,)
            else:
                load, sources = partial(fvd_features.I3DFeatures.load, geometry=geometry), (fvd_features.WEIGHTS,)
            load = partial(load, frames=FRAMES)
            entries[column] = Entry("set", what, papers["fvd"], sources, load, -1, distance)
        entries[set_column(f"videomae[videomae,{videomae_features.FRAMES}f]", distance)] = Entry(
            "set",
            f"{distance} distance of the clips' VideoMAE features, squashed to 224, 16 frames; sees more motion",
            "Ge et al. 2024",
            (videomae_features.WEIGHTS,),
            videomae_features.VideoMAEFeatures.load,
            -1,
            distance,
        )
    return entries


METRICS: dict[str, Entry] = {
    "psnr": Entry("paired", "PSNR in dB, mean over frames", "", (), _without_weights(paired.PSNR)),
    "ssim": Entry("paired", "SSIM, mean over frames", "Wang et al. 2004", (), _without_weights(paired.SSIM)),
    "lpips_alex": Entry(
        "paired",
        "LPIPS v0.1 on AlexNet, mean over frames",
        "Zhang et al. 2018",
        (lpips.HEADS["alex"], lpips.BACKBONES["alex"]),
        lpips.LPIPS.load,
        -1,
    ),
    "lpips_vgg": Entry(
        "paired",
        "LPIPS v0.1 on VGG-16, mean over frames",
        "Zhang et al. 2018",
        (lpips.HEADS["vgg"], lpips.BACKBONES["vgg"]),
        partial(lpips.LPIPS.load, net="vgg"),
        -1,
    ),
    **_set_entries(),
    "temporal_flickering": Entry(
        "clip",
        "1 - mean change between frames; 1 for a still clip",
        "VBench, Huang et al. 2024",
        (),
        _without_weights(consistency.TemporalFlickering),
    ),
    "subject_consistency": Entry(
        "clip",
        "likeness of frames in DINO ViT-B/16",
        "VBench, Huang et al. 2024",
        (consistency.DINO,),
        consistency.SubjectConsistency.load,
    ),
    "background_consistency": Entry(
        "clip",
        "likeness of frames in CLIP ViT-B/32",
        "VBench, Huang et al. 2024",
        (consistency.CLIP,),
        consistency.BackgroundConsistency.load,
    ),
}


def metric_entry(column: str) -> Entry:
    """ValueError that names the columns there are, for one that does not exist."""
    if column not in METRICS:
        raise ValueError(f"no clip metric {column!r}; there are {', '.join(METRICS)}")
    return METRICS[column]


def load_metric(column: str, places: Mapping[str, str] | None = None, device: str | torch.device = "cpu") -> Metric:
    """The metric of one column, or the extractor of its features; `places` gives a file, folder or hub id per part.

    Raises ValueError for a column or part that does not exist, FileNotFoundError for files that are not there.
    """
    entry = metric_entry(column)
    places = dict(places or {})
    parts = [source.part for source in entry.sources]
    if unknown := sorted(places.keys() - set(parts)):
        raise ValueError(f"{column} has no part {unknown[0]!r}; it reads {', '.join(parts) or 'no files'}")
    return entry.load(device=device, **places)


def diagnose_metrics(columns: Iterable[str], places: Mapping[str, Mapping[str, str]] | None = None) -> list[Need]:
    """The files that the columns read, with those that are missing here; asks no network. Errors as `metric_entry`."""
    needs = []
    for column in columns:
        for source in metric_entry(column).sources:
            given = (places or {}).get(column, {}).get(source.part)
            try:
                found, cure = str(locate(source, given, download=False)[0]), ""
            except FileNotFoundError as error:
                found, cure = None, f"{error}. {CURE}"
            needs.append(
                Need(
                    column,
                    source.part,
                    given or source.published,
                    source.size,
                    source.licence,
                    found,
                    cure,
                    source.names,
                )
            )
    return needs
