"""The recipes that come with this program, in a checkout and in the wheel alike. Without torch."""

import re
from pathlib import Path
from typing import NamedTuple

from seppo_core.config.messages import nearest

_ROOT = Path(__file__).parents[2]
_IN_WHEEL = _ROOT / "seppo_core" / "shipped"
_PLANNED = re.compile(
    r"Hardware: (.+?)\. Memory: prepare ([\d.]+) GiB, train ([\d.]+) GiB(?: each)?\. Hours: about ([\d.]+).*?"
    r"\(`plan --gpu (\S+?)(?: --gpus (\d+))?`, not measured\)"
)
"""What the header of a recipe says of hardware, memory and hours; a test holds it against `plan`."""


class Planned(NamedTuple):
    """The figures of a recipe's header, memory in GiB on each GPU."""

    hardware: str
    prepare: float
    train: float
    hours: float
    gpu: str
    gpus: int


def shipped(path: str) -> Path:
    """A file or folder of the checkout that the wheel holds too, by its path from the checkout's root.

    FileNotFoundError if it is neither here nor there.
    """
    found = next((root / path for root in (_IN_WHEEL, _ROOT) if (root / path).exists()), None)
    if found is None:
        raise FileNotFoundError(f"{path} did not come with this installation; install the wheel or a checkout again")
    return found


def recipes(modality: str) -> dict[str, Path]:
    """The recipes of `modality` (image, video) by name."""
    return {path.stem: path for path in sorted(shipped(f"configs/{modality}").glob("*.yaml"))}


def find_recipe(name: str, modality: str) -> Path:
    """The recipe of this name; ValueError, with the nearest, if there is none."""
    found = recipes(modality)
    wanted = name.removesuffix(".yaml")
    if wanted not in found:
        guess = nearest(wanted, list(found))
        hint = f"did you mean {guess}?" if guess else f"`seppo-{modality} init --list` prints them"
        raise ValueError(f"--recipe {name} is not a recipe; {hint}")
    return found[wanted]


def refuse_recipe(name: str) -> None:
    """FileNotFoundError, with the way to a config, for the `name` of a config that is no file but calls a recipe."""
    path = Path(name)
    if path.exists() or (path.suffix != ".yaml" and path.parent != Path()):
        return
    modalities = {stem: modality for modality in ("image", "video") for stem in recipes(modality)}
    stem = path.name.removesuffix(".yaml")
    recipe = stem if stem in modalities or path.suffix else nearest(stem, list(modalities))
    if recipe in modalities:
        command = f"seppo-{modalities[recipe]} init mine --recipe {recipe}"
        raise FileNotFoundError(
            f"{name} is no file here; the recipe {recipe} is a config to begin with: `{command} --data FOLDER` writes "
            f"mine.yaml from it for your own data, `{command}` copies it"
        )


def header(path: Path) -> list[str]:
    """The comment that a recipe begins with, a line an item, without the marks."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return [line[1:].removeprefix(" ") for line in lines[:end]]


def planned(path: Path) -> Planned | None:
    """What the header of a recipe says of cost; None where it does not say it in the common words."""
    found = _PLANNED.search(" ".join(line.strip() for line in header(path)))
    if found is None:
        return None
    hardware, prepare, train, hours, gpu, gpus = found.groups()
    return Planned(hardware, float(prepare), float(train), float(hours), gpu, int(gpus or 1))


def listing(program: str, modality: str) -> str:
    """All recipes, each with its card, memory, hours and first sentence."""
    lines = []
    for name, path in recipes(modality).items():
        cost = planned(path)
        memory, hours = f"{max(cost.prepare, cost.train):g} GiB", f"{cost.hours:g} h"
        lines.append(f"{name:34}{cost.hardware:24}{memory:>10}{hours:>10}")
        lines.append(f"    {_first_sentence(path)}")
    return (
        f"{'recipe':34}{'hardware':24}{'memory':>10}{'time':>10}\n"
        + "\n".join(lines)
        + "\n\nMemory is that of each GPU and time that of `train`, as `plan` counts them; none was measured.\n"
        f"next: {program} init mine --data FOLDER, with --recipe NAME for another one than the base's own"
    )


def _first_sentence(path: Path) -> str:
    prose = " ".join(line for line in header(path) if not line.startswith("  "))
    return re.split(r"(?<=[\w)]{2})[.:] (?=[A-Z#])", prose, maxsplit=1)[0]
