"""Grids of samples in one file, of which a page shows single tiles: nothing is cut up, whatever the file plays."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageSequence

from seppo_core.io.atomic import whole_file
from seppo_core.report.html import Html, element

GAP = 8
"""Pixels between two grids in one file."""
MOST = 256
"""Pixels along a tile's longer side above which a page shows a smaller copy."""
LONGEST = 16_000
"""Pixels along a side of a WebP file."""
SHARP = 96
"""Tiles that are smaller are enlarged without smoothing."""
QUALITY = 85


@dataclass(frozen=True)
class Sheet:
    """Tiles of `size` (width, height) in `rows` and `columns`, from pixel `left` on of a picture or clip of `whole`
    pixels. `file` is what pages show, the original or a smaller copy; `original` is what a click opens."""

    file: Path
    original: Path
    whole: tuple[int, int]
    size: tuple[int, int]
    rows: int
    columns: int
    left: int = 0

    def tile(self, row: int, column: int, alt: str, base: Path) -> Html:
        """A tile as wide as its place; `base` is the folder of the page, above that of the files."""
        x, y = self.left + column * self.size[0], row * self.size[1]
        places = [_share(x, self.whole[0] - self.size[0]), _share(y, self.whole[1] - self.size[1])]
        scale = [f"{100 * all_of_it / one:.4f}%" for all_of_it, one in zip(self.whole, self.size, strict=True)]
        style = (
            f"background-image:url({_url(self.file, base)});background-size:{' '.join(scale)};"
            f"background-position:{' '.join(places)};aspect-ratio:{self.size[0]}/{self.size[1]}"
        )
        sharp = " pixels" if max(self.size) < SHARP else ""
        shown = element("span", class_=f"tile{sharp}", role="img", aria_label=alt, style=style)
        return element("a", shown, href=_url(self.original, base), class_="tile-link")


def sheet_of(
    file: Path,
    size: tuple[int, int],
    rows: int,
    columns: int,
    *,
    grid: int = 0,
    grids: int = 1,
    copies: Path | None = None,
) -> Sheet:
    """Of `grids` grids side by side in a file the one of number `grid`, with tiles of `size`, width and height. If they
    are large, a smaller copy of the file is made in the folder `copies`.

    ValueError if the file does not hold such grids.
    """
    with Image.open(file) as picture:
        whole = picture.size
    if whole != (grids * columns * size[0] + (grids - 1) * GAP, rows * size[1]):
        wanted = f"{rows} x {grids * columns} samples of {size[0]} x {size[1]}"
        raise ValueError(f"{file} of {whole[0]} x {whole[1]} pixels holds no {wanted}")
    left = grid * (columns * size[0] + GAP)
    return Sheet(_copy(file, max(size), copies), file, whole, size, rows, columns, left)


def _copy(file: Path, tile: int, copies: Path | None) -> Path:
    """A copy with tiles of at most `MOST` pixels, made once; the file itself if its tiles are no larger."""
    if copies is None or tile <= MOST:
        return file
    path = copies / f"{file.stem}.webp"
    if path.exists() and path.stat().st_mtime >= file.stat().st_mtime:
        return path
    with Image.open(file) as picture:
        scale = min(MOST / tile, LONGEST / max(picture.size))
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        frames = [
            frame.convert("RGB").resize(size, Image.Resampling.LANCZOS) for frame in ImageSequence.Iterator(picture)
        ]
        pause = picture.info.get("duration", 0)
    with whole_file(path) as temporary:
        more = {"save_all": True, "append_images": frames[1:], "duration": pause, "loop": 0} if len(frames) > 1 else {}
        frames[0].save(temporary, format="WEBP", quality=QUALITY, **more)
    return path


def _share(place: int, room: int) -> str:
    """Where a background of which `room` is out of sight shows what begins at `place`."""
    return f"{100 * place / room:.4f}%" if room else "0%"


def _url(file: Path, base: Path) -> str:
    return quote(file.relative_to(base).as_posix())
