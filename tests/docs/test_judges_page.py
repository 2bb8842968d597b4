"""The table of docs/judges.md names each scorer of the catalogue with the parts, repositories and sizes that it has."""

import re
from pathlib import Path

import torch

from seppo_core.judging.catalogue import ANY_OPEN_CLIP, SCORERS
from tests.docs.pages import blocks, text_of

PAGE = Path("docs/judges.md")
ROWS = {
    column: line
    for line in text_of(PAGE).splitlines()
    if line.startswith("| `")
    for column in re.findall(r"`([^`]+)`", line.split("|")[1])
}


def test_every_scorer_stands_there_with_its_files_and_what_there_is_to_fetch():
    assert set(SCORERS) | {ANY_OPEN_CLIP} == set(ROWS)
    for column, entry in SCORERS.items():
        _, _, parts, size, _ = ROWS[column].split("|")
        for source in entry.sources:
            assert f"`{source.part}`: " in parts and f"`{source.published}`" in parts, (column, source)
            named = {name for names in source.files for name in names} | {source.published}
            told = re.search(rf"`{source.part}`: ([^;]*)", parts)[1]
            assert set(re.findall(r"`([^`]+)`", told)) <= named, (column, source)
        assert size.strip() == f"{sum(source.size for source in entry.sources) / 1e9:.1f} GB", column


def test_the_function_that_is_shown_is_a_judge():
    names: dict = {}
    (shown,) = blocks(PAGE, "python")
    exec(shown, names)
    red, cyan = torch.tensor([1.0, -1, -1]), torch.tensor([-1.0, 1, 1])
    pixels = torch.stack([red, cyan])[:, :, None, None].expand(2, 3, 4, 4)
    assert names["redness"](pixels, ["a", "b"]) == [2.0, -2.0]
