"""Lists the files that scorers need and those that are missing here, before anything is generated. Asks no network."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from seppo_core.judging.catalogue import ANY_OPEN_CLIP, OPEN_CLIP, SCORERS, Package, entry_of
from seppo_core.judging.weights import WEIGHTS_VARIABLE, Source, locate, locate_folder

PACKAGE = "package"
CURE = (
    f"Download it and name it with --place SCORER.PART=PLACE, put it into ${WEIGHTS_VARIABLE}/OWNER/NAME, "
    "or let the hub client fetch it when the scorer is loaded (HF_HUB_OFFLINE unset)."
)


@dataclass(frozen=True)
class Need:
    """One thing that one scorer reads."""

    scorer: str
    part: str
    published: str
    size: int
    """Bytes to fetch if it is missing; 0 if that is not known."""
    licence: str
    found: str | None
    """Where it is on this machine; None if it is missing."""
    cure: str
    files: str = ""
    """Names of the files that would do."""
    required: bool = True

    @property
    def missing(self) -> bool:
        return self.required and self.found is None

    @property
    def line(self) -> str:
        """The needed files, in one line."""
        if self.part == PACKAGE:
            return f"{self.scorer}: {self.cure}"
        size = f"{self.size / 1e6:,.0f} MB, " if self.size else ""
        return f"{self.scorer}.{self.part}: {self.files} of {self.published} ({size}{self.licence})"


def diagnose(columns: Iterable[str], places: Mapping[str, Mapping[str, str]] | None = None) -> list[Need]:
    """The needs of `columns` in order; `places` gives a file, folder or hub id per column and part.

    Raises ValueError for a column that does not exist.
    """
    places = places or {}
    needs = []
    for column in columns:
        entry = entry_of(column)
        given = places.get(column, {})
        needs += [_need(column, source, given.get(source.part)) for source in entry.sources]
        needs += [_package(column, package) for package in entry.packages]
    return needs


def table(needs: list[Need]) -> str:
    """Markdown: one row per need, and a last line with what there is to fetch (shared files counted once)."""
    rows = ["| scorer | part | published as | size | licence | here |", "|---|---|---|---|---|---|"]
    for need in needs:
        here = need.found or (f"**missing**: {need.files}" if need.required else f"optional: {need.cure}")
        rows.append(
            f"| {need.scorer} | {need.part} | {need.published} | {_size(need.size)} | {need.licence} | {here} |"
        )
    fetched = {(need.published, need.part): need.size for need in needs if need.missing}
    rows.append("")
    if fetched:
        rows.append(f"{len(fetched)} missing, {_size(sum(fetched.values()))} to fetch. {CURE}")
    else:
        rows.append("Nothing missing.")
    return "\n".join(rows)


def overview() -> str:
    """Markdown: every scorer with what it measures, its size and its licences."""
    rows = ["| scorer | measures | from | size | licence |", "|---|---|---|---|---|"]
    for column, entry in SCORERS.items():
        size = _size(sum(source.size for source in entry.sources))
        licences = "; ".join(dict.fromkeys(source.licence for source in entry.sources))
        rows.append(f"| {column} | {entry.what} | {entry.source} | {size} | {licences} |")
    rows.append(
        f"| {ANY_OPEN_CLIP} | CLIPScore in any model of {OPEN_CLIP.distribution}, e.g. "
        "open_clip_score[ViT-B-32:laion2b_s34b_b79k] | Hessel et al. 2021 | – | as its page says |"
    )
    return "\n".join(rows)


def _need(column: str, source: Source, given: str | None) -> Need:
    try:
        if source.whole:
            found, cure = str(locate_folder(source, given, download=False)), ""
        else:
            found, cure = str(locate(source, given, download=False)[0]), ""
    except FileNotFoundError as error:
        found, cure = None, str(error)
    published = given if found is None and given is not None else source.published
    return Need(column, source.part, published, source.size, source.licence, found, cure, source.names)


def _package(column: str, package: Package) -> Need:
    found = "installed" if _is_usable(package) else None
    cure = f"pip install {package.distribution}, {package.why}"
    return Need(
        column,
        PACKAGE,
        package.distribution,
        0,
        package.licence,
        found,
        cure,
        f"pip install {package.distribution}",
        package.required,
    )


def _is_usable(package: Package) -> bool:
    """Whether it is there, and where nothing goes without it, whether it imports: torchvision may not fit torch."""
    if find_spec(package.name) is None or not package.required:
        return find_spec(package.name) is not None
    try:
        import_module(package.name)
    except (ImportError, RuntimeError):
        return False
    return True


def _size(size: int) -> str:
    if size == 0:
        return "–"
    if size >= 1e9:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
