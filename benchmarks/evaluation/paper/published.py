"""The tables of arXiv 2410.05255 as printed, with the columns of ours that measure the same."""

from collections.abc import Collection
from dataclasses import dataclass

MARK = "‡"
DAGGER = "†"
DAGGER_NOTE = (
    "† HPSv2 values of rows taken over from another paper are very likely HPS v2.1, the others v2.0 (deduced from "
    "third-party measurements of SD-1.5: 26.46 by v2.0, 24.05 by v2.1). They are not comparable within the column."
)
SEPPO_CONFIG = "configs/image/sd15_pickapic_seppo.yaml"
SFT_CONFIG = "configs/image/sd15_pickapic_sft.yaml"


@dataclass(frozen=True)
class Heading:
    """One column as printed, and the column of a report that is the same quantity."""

    label: str
    column: str
    prompts: str
    """Name of the prompt set."""
    scale: float = 1.0
    digits: int = 2
    better: int = 1
    assumed: bool = False
    """Whether the paper leaves open which variant it is."""


@dataclass(frozen=True)
class PublishedRow:
    """One row as printed. `recipe` is what trains it here: a config and options; empty if there is none."""

    key: str
    label: str
    values: tuple[float, ...]
    daggers: tuple[int, ...] = ()
    """Positions of values marked †."""
    recipe: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper."""

    number: int
    title: str
    protocols: tuple[str, ...]
    """Protocols of ours whose numbers may stand beside it without a mark."""
    headings: tuple[Heading, ...]
    rows: tuple[PublishedRow, ...]
    notes: tuple[str, ...] = ()


def _image(prompts: str, suffix: str = "", decimals: int = 3) -> tuple[Heading, ...]:
    return (
        Heading(f"PickScore{suffix}", "pickscore_cos", prompts, 100),
        Heading(f"HPSv2{suffix}", "hps_v2.0", prompts, 100),
        Heading(f"ImageReward{suffix}", "image_reward", prompts, 1, decimals),
        Heading(f"Aesthetic{suffix}", "aesthetic", prompts, 1, decimals),
    )


def _paired_sets(headings: tuple[tuple[Heading, ...], ...]) -> tuple[Heading, ...]:
    """HPS and Parti side by side for each metric, as printed."""
    return tuple(heading for both in zip(*headings, strict=True) for heading in both)


AUTHORS_PROTOCOLS = ("seppo-t2i-sd15",)
UNKNOWN_VARIANT = "Which FID, LPIPS and FVD the paper used is not stated; the columns of ours are the likeliest."

TABLES: dict[int, PublishedTable] = {
    1: PublishedTable(
        1,
        "SD-1.5 on Pick-a-Pic validation_unique (500 prompts)",
        AUTHORS_PROTOCOLS,
        _image("pickapic-validation"),
        (
            PublishedRow("base", "SD-1.5", (20.53, 23.79, -0.163, 5.365), (1,)),
            PublishedRow("sft", "SFT^w", (21.32, 27.14, 0.519, 5.642), recipe=SFT_CONFIG),
            PublishedRow("ddpo", "DDPO", (21.06, 24.91, 0.082, 5.591), (1,)),
            PublishedRow("d3po", "D3PO", (20.76, 23.91, -0.124, 5.527), (1,)),
            PublishedRow(
                "dpo", "Diffusion-DPO", (20.98, 25.05, 0.112, 5.505), (1,),
                recipe="configs/image/sd15_pickapic_dpo.yaml",
            ),
            PublishedRow("spo", "SPO", (21.43, 26.45, 0.171, 5.887), (1,)),
            PublishedRow(
                "spin", "SPIN-Diffusion", (21.55, 27.10, 0.484, 5.929),
                recipe="configs/image/sd15_pickapic_spin.yaml",
            ),
            PublishedRow(
                "seppo-r", "SePPO^r", (21.33, 27.07, 0.524, 5.712),
                recipe="configs/image/sd15_pickapic_seppo_random.yaml",
            ),
            PublishedRow("seppo", "SePPO^w", (21.57, 27.20, 0.615, 5.772), recipe=SEPPO_CONFIG),
        ),
        (DAGGER_NOTE,),
    ),
    2: PublishedTable(
        2,
        "SD-1.5 on the HPSv2 benchmark (3200 prompts) and PartiPrompts (1632)",
        AUTHORS_PROTOCOLS,
        _paired_sets((_image("hpsv2-benchmark", ", HPS", 2), _image("partiprompts", ", Parti", 2))),
        (
            PublishedRow("base", "SD-1.5", (20.95, 21.38, 27.17, 26.70, 0.08, 0.16, 5.55, 5.33)),
            PublishedRow("sft", "SFT^w", (21.50, 21.68, 27.88, 27.40, 0.68, 0.56, 5.82, 5.53), recipe=SFT_CONFIG),
            PublishedRow(
                "dpo", "Diffusion-DPO", (21.40, 21.63, 27.23, 26.93, 0.30, 0.32, 5.68, 5.41),
                recipe="configs/image/sd15_pickapic_dpo.yaml",
            ),
            PublishedRow("rpo", "Diffusion-RPO", (21.43, 21.66, 27.37, 27.05, 0.34, 0.39, 5.69, 5.43)),
            PublishedRow("spo", "SPO", (21.87, 21.85, 27.60, 27.41, 0.41, 0.42, 5.87, 5.63)),
            PublishedRow(
                "spin", "SPIN-Diffusion", (21.88, 21.91, 27.71, 27.58, 0.54, 0.51, 6.05, 5.78),
                recipe="configs/image/sd15_pickapic_spin.yaml",
            ),
            PublishedRow(
                "seppo", "SePPO^w", (21.90, 21.93, 27.92, 27.69, 0.70, 0.58, 5.94, 5.64), recipe=SEPPO_CONFIG
            ),
        ),
    ),
    3: PublishedTable(
        3,
        "AnimateDiff on ChronoMagic-Bench-150",
        ("seppo-t2v",),
        (
            Heading("FID", "fid[clean]", "chronomagic-150", 1, 2, -1, True),
            Heading("LPIPS", "lpips_alex", "chronomagic-150", 1, 2, -1, True),
            Heading("SSIM", "ssim", "chronomagic-150", 1, 2),
            Heading("PSNR", "psnr", "chronomagic-150", 1, 2),
            Heading("FVD", "fvd[styleganv,16f]", "chronomagic-150", 1, 2, -1, True),
        ),
        (
            PublishedRow("base", "AnimateDiff", (134.86, 0.68, 0.16, 9.18, 1608.41)),
            PublishedRow(
                "sft", "SFT", (129.14, 0.65, 0.17, 9.25, 1415.68),
                recipe="configs/video/animatediff_chronomagic_sft.yaml",
            ),
            PublishedRow(
                "seppo", "SePPO", (115.32, 0.61, 0.20, 9.36, 1300.97),
                recipe="configs/video/animatediff_chronomagic_seppo.yaml",
            ),
        ),
        (UNKNOWN_VARIANT,),
    ),
    4: PublishedTable(
        4,
        "Ablation of SePPO^w on Pick-a-Pic validation_unique",
        AUTHORS_PROTOCOLS,
        _image("pickapic-validation"),
        (
            PublishedRow(
                "aaf-off", "AAF off", (20.88, 26.78, 0.366, 5.491), recipe="configs/image/sd15_pickapic_anchor_off.yaml"
            ),
            PublishedRow(
                "indicator", "indicator", (21.56, 27.18, 0.606, 5.797),
                recipe="configs/image/sd15_pickapic_indicator.yaml",
            ),
            PublishedRow(
                "ref-initial", "ref = 0", (21.41, 27.04, 0.562, 5.727),
                recipe="configs/image/sd15_pickapic_initial.yaml",
            ),
            PublishedRow(
                "ref-latest", "ref = k−1", (21.34, 27.05, 0.537, 5.708),
                recipe="configs/image/sd15_pickapic_latest.yaml",
            ),
            PublishedRow("seppo", "SePPO^w (sign, random)", (21.57, 27.20, 0.615, 5.772), recipe=SEPPO_CONFIG),
        ),
        (
            "Which reference the row “AAF off” uses is not stated; the recipe keeps the random one.",
            "By the table's own numbers the HPSv2 values here are v2.0.",
        ),
    ),
}  # fmt: skip


def as_the_paper(report: dict, table: PublishedTable) -> bool:
    """Whether a report repeats the paper's protocol on its prompts, unchanged but for the seeds' mode."""
    changed = set(report["protocol"]["changed"]) - {"seed_mode"}
    return (
        report["protocol"]["name"] in table.protocols and not changed and report["prompts"]["as_published"] is not False
        and report["prompts"]["cut_from"] is None
    )  # fmt: skip


def published_beside(
    protocol: str, prompts: str, measured: Collection[str]
) -> tuple[PublishedTable, tuple[int, ...]] | None:
    """The table that a protocol on a prompt set repeats, and which of its columns; None if there is none.

    Nor is there one if none of its columns is among those `measured`. The ablation's table is asked for by its own
    command.
    """
    for table in (TABLES[1], TABLES[2], TABLES[3]):
        columns = tuple(i for i, heading in enumerate(table.headings) if heading.prompts == prompts)
        columns = columns if any(table.headings[i].column in measured for i in columns) else ()
        if columns and (protocol in table.protocols or protocol.startswith(("seppo-t2v", prompts))):
            return table, columns
    return None
