"""A tile's style shows that sample and no other, worked out as browsers place backgrounds."""

import re

import numpy as np
import pytest
from PIL import Image, ImageSequence

from seppo_core.report.sheet import MOST, Sheet, sheet_of
from tests.report.run_folder import COLUMNS, colour, write_run


def shown(sheet: Sheet, row: int, column: int) -> np.ndarray:
    """What a box of the tile's size shows of the picture, by the CSS: a background that is larger than its box is
    placed so that p % of it lies at p % of the box (CSS Backgrounds 3, section 3.6)."""
    folder = sheet.original.parent
    style = re.search(r'style="([^"]*)"', sheet.tile(row, column, "alt", folder))[1]
    of = dict(part.split(":", 1) for part in style.split(";"))
    width, height = map(int, of["aspect-ratio"].split("/"))
    scale = [float(part.rstrip("%")) / 100 for part in of["background-size"].split()]
    place = [float(part.rstrip("%")) / 100 for part in of["background-position"].split()]
    with Image.open(folder / of["background-image"][4:-1]) as opened:
        size = (round(scale[0] * width), round(scale[1] * height))
        whole = np.asarray(opened.convert("RGB").resize(size, Image.Resampling.BOX))
    x, y = (round(p * (size[axis] - side)) for axis, (p, side) in enumerate(zip(place, (width, height), strict=True)))
    return whole[y : y + height, x : x + width]


@pytest.mark.parametrize("size", [16, MOST + 44])
def test_every_tile_is_its_own(tmp_path, size):
    run = write_run(tmp_path / "run", size=size)
    file = run / "previews" / "update-000008.png"
    for which, update in enumerate((0, 8)):
        sheet = sheet_of(file, (size, size), 3, COLUMNS, grid=which, grids=2, copies=run / "previews" / "small")
        assert (sheet.file == file) is (size <= MOST)
        for row in range(3):
            for column in range(COLUMNS):
                # a copy's colours are those of a lossy format
                inner = shown(sheet, row, column)[2:-2, 2:-2].astype(int)
                assert np.abs(inner - colour(update, row, column)).max() <= (0 if size <= MOST else 12)


def test_a_smaller_copy_plays_and_is_made_once(tmp_path):
    run = write_run(tmp_path / "run", size=MOST + 44, frames=3)
    file = run / "previews" / "update-000004.webp"
    copies = tmp_path / "small"
    made = sheet_of(file, (MOST + 44,) * 2, 3, COLUMNS, grid=1, grids=2, copies=copies).file
    with Image.open(made) as copy:
        assert copy.n_frames == 3 and max(copy.size) <= MOST * (2 * COLUMNS + 1)
        brightness = [np.asarray(frame.convert("RGB")).mean() for frame in ImageSequence.Iterator(copy)]
    assert brightness == sorted(brightness)
    before = made.stat().st_mtime_ns
    assert sheet_of(file, (MOST + 44,) * 2, 3, COLUMNS, grids=2, copies=copies).file.stat().st_mtime_ns == before


def test_what_is_no_such_grid_is_refused(tmp_path):
    run = write_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"of 72 x 48 pixels holds no 3 x 6 samples of 16 x 16"):
        sheet_of(run / "previews" / "update-000004.png", (16, 16), 3, 6)
