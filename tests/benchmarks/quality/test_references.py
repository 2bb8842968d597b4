"""Real samples are found by the ids that the prompt file has, however those are spelled."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.evaluation.folder import Plan, PlanFolder
from benchmarks.evaluation.prompt_files import import_prompts
from benchmarks.evaluation.references import NO_REFERENCE, References
from benchmarks.evaluation.score import reference_hashes
from tests.benchmarks.quality.fake import entry, protocol

IDS = ["day2night_13.0", "a b", "Ölfarbe", "plain-1", "ÖLFARBE?", "PLAIN-1", "plain-1"]
"""As in ChronoMagic-Bench's file, which has dots; and worse."""


def shade(number: int) -> int:
    return 20 * number + 10


@pytest.fixture
def prompts(tmp_path):
    rows = "".join(f"{name},prompt {number}\n" for number, name in enumerate(IDS))
    (tmp_path / "c.csv").write_text("videoid,name\n" + rows, encoding="utf-8")
    return import_prompts(tmp_path / "c.csv")


@pytest.fixture
def folder(tmp_path, prompts):
    (tmp_path / "real" / "more").mkdir(parents=True)
    for number, name in enumerate(IDS[:4]):
        picture = Image.fromarray(np.full((16, 16, 3), shade(number), np.uint8))
        picture.save(tmp_path / "real" / ("more" if number % 2 else ".") / f"{name}.png")
    return tmp_path / "real"


def test_ids_with_dots_and_spaces_name_the_same_files_as_in_their_own_set(prompts, folder):
    references = References(folder, protocol(height=8, width=8))
    # the last row is the first picture of its name with another caption; ids differ in case where files would not
    assert references.missing(prompts.prompts) == ["ÖLFARBE?", "PLAIN-1"]
    for number, prompt in enumerate([*prompts.prompts[:4], prompts.prompts[6]]):
        assert references.read(prompt).unique().tolist() == [shade(min(number, 3))]
    with pytest.raises(ValueError, match=f"^{NO_REFERENCE}$"):
        references.read(prompts.prompts[4])


def test_a_file_may_be_called_by_the_plainer_id_too(prompts, folder):
    (folder / "day2night_13.0.png").rename(folder / f"{prompts.prompts[0].id}.png")
    assert References(folder, protocol(height=8, width=8)).missing(prompts.prompts[:1]) == []


def test_a_plan_that_is_read_back_finds_them_as_well(tmp_path, prompts, folder):
    place = PlanFolder(tmp_path / "out", tmp_path / "cache")
    place.open(Plan(protocol(height=8, width=8), prompts, (entry("base"),)))
    plan = place.load()
    assert plan.prompts.prompts == prompts.prompts
    found = reference_hashes(place, plan, References(folder, plan.protocol), None)
    assert found.keys() == {prompts.prompts[n].key for n in (0, 1, 2, 3, 6)} == place.references().keys()


def test_why_one_cannot_be_read_is_written_down_once(tmp_path, prompts, folder):
    place = PlanFolder(tmp_path / "out", tmp_path / "cache")
    plan = place.open(Plan(protocol(height=8, width=8), prompts, (entry("base"),)))
    file = folder / "day2night_13.0.png"
    whole = file.read_bytes()
    file.write_bytes(b"no picture")
    for _ in range(2):
        found = reference_hashes(place, plan, References(folder, plan.protocol), None)
        assert len(found) == 4
    ((key, reason),) = place.unreadable_references().items()
    assert key == prompts.prompts[0].key and reason.startswith("UnidentifiedImageError: cannot identify image file")
    assert len((place.folder / "references.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    file.write_bytes(whole)
    reference_hashes(place, plan, References(folder, plan.protocol), None)
    assert len(place.references()) == 5 and place.unreadable_references() == {}
