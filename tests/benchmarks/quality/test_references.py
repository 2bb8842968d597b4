"""Real samples are found by the ids that the prompt file has, however those are spelled."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks.evaluation.folder import Plan, PlanFolder
from benchmarks.evaluation.generate import generate
from benchmarks.evaluation.metric_adapters import PairedJudge
from benchmarks.evaluation.metrics.psnr_ssim import PSNR
from benchmarks.evaluation.prompt_files import import_prompts
from benchmarks.evaluation.prompts import Prompt
from benchmarks.evaluation.references import NO_REFERENCE, References
from benchmarks.evaluation.results import collect
from benchmarks.evaluation.score import reference_hashes, score
from tests.benchmarks.quality.fake import FakeSampler, entry, open_plan, protocol

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
    references = References(folder, protocol(height=8, width=8), prompts.prompts)
    # the last row is the first picture of its name with another caption; ids differ in case where files would not
    assert references.missing() == ["ÖLFARBE?", "PLAIN-1"]
    for number, prompt in enumerate([*prompts.prompts[:4], prompts.prompts[6]]):
        assert references.read(prompt).unique().tolist() == [shade(min(number, 3))]
    with pytest.raises(ValueError, match=f"^{NO_REFERENCE}$"):
        references.read(prompts.prompts[4])


def test_a_file_may_be_called_by_the_plainer_id_too(prompts, folder):
    (folder / "day2night_13.0.png").rename(folder / f"{prompts.prompts[0].id}.png")
    assert References(folder, protocol(height=8, width=8), prompts.prompts[:1]).missing() == []


def test_a_plan_that_is_read_back_finds_them_as_well(tmp_path, prompts, folder):
    place = PlanFolder(tmp_path / "out", tmp_path / "cache")
    place.open(Plan(protocol(height=8, width=8), prompts, (entry("base"),)))
    plan = place.load()
    assert plan.prompts.prompts == prompts.prompts
    found = reference_hashes(place, plan, References(folder, plan.protocol, prompts.prompts), None)
    assert found.keys() == {prompts.prompts[n].key for n in (0, 1, 2, 3, 6)} == place.references().keys()


def test_why_one_cannot_be_read_is_written_down_once(tmp_path, prompts, folder):
    place = PlanFolder(tmp_path / "out", tmp_path / "cache")
    plan = place.open(Plan(protocol(height=8, width=8), prompts, (entry("base"),)))
    file = folder / "day2night_13.0.png"
    whole = file.read_bytes()
    file.write_bytes(b"no picture")
    for _ in range(2):
        found = reference_hashes(place, plan, References(folder, plan.protocol, prompts.prompts), None)
        assert len(found) == 4
    ((key, reason),) = place.unreadable_references().items()
    assert key == prompts.prompts[0].key and reason.startswith("UnidentifiedImageError: cannot identify image file")
    assert len((place.folder / "references.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    file.write_bytes(whole)
    reference_hashes(place, plan, References(folder, plan.protocol, prompts.prompts), None)
    assert len(place.references()) == 5 and place.unreadable_references() == {}


def test_scores_follow_the_pixels_of_the_references_and_not_their_names(tmp_path):
    """Another folder, another content under the same names, one file that goes: no score of before is kept."""
    folder, plan = open_plan(tmp_path, ["base", "moved"], 3, seeds=(0,), height=12, width=12)
    for model, frames in zip(plan.models, (None, 1), strict=True):
        sampler = FakeSampler()
        if frames:
            draw = sampler._frames
            sampler._frames = lambda job, draw=draw: draw(job) // 2
        generate(folder.samples(model), plan.prompts.prompts, plan.protocol, lambda s=sampler: s, {})
    real = tmp_path / "real"
    real.mkdir()

    def means(level: int, models: int = 2) -> dict:
        for prompt in plan.prompts.prompts:
            Image.new("RGB", (12, 12), (level,) * 3).save(real / f"{prompt.id}.png")
        asked = replace(plan, models=plan.models[:models])
        judge(folder, asked, real)
        found = collect(folder)
        return {name: float(found.table(name, "psnr").mean()) for name in found.names}

    def judge(folder, plan, real):
        return score(
            folder,
            plan,
            "psnr",
            lambda: PairedJudge("psnr", PSNR()),
            References(real, plan.protocol, plan.prompts.prompts),
        )

    def by_hand(level: int) -> dict:
        found = {}
        for model in plan.models:
            store = folder.samples(model)
            frames = [store.read(store.find(prompt, 0)).double() for prompt in plan.prompts.prompts]
            errors = [((x - level) / 255).square().mean().item() for x in frames]
            found[model.name] = float(np.mean([-10 * np.log10(error) for error in errors]))
        return found

    # the first model alone, so that another was scored on other pictures if names were trusted
    black = means(0, models=1)
    assert black["base"] == pytest.approx(by_hand(0)["base"]) and np.isnan(black["moved"])
    assert means(255) == pytest.approx(by_hand(255))
    # the shared cache holds nothing under wrong pixels
    other = PlanFolder(tmp_path / "other", folder.cache)
    other.open(plan)
    assert judge(other, plan, real) == 0
    assert means(0) == pytest.approx(by_hand(0))
    (real / "p1.png").unlink()
    judge(folder, plan, real)
    assert collect(folder).score_failures["base", "psnr"] == {f"ValueError: {NO_REFERENCE}": 1}
    # a file that changes between the look at it and the comparison is no score either
    references = References(real, plan.protocol, plan.prompts.prompts)
    with pytest.raises(ValueError, match="was changed while it was compared"):
        references.read(plan.prompts.prompts[0], "r2-other")


def test_pictures_are_decoded_as_those_that_are_trained_on(tmp_path):
    """Sixteen bits, hidden colours under transparency and EXIF's orientation: a ramp looks the same in all of them."""
    ramp = np.linspace(20, 235, 16).astype(np.uint8)
    grey = np.tile(ramp, (16, 1))
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:, :8, :3], rgba[:, :8, 3] = grey[:, :8, None], 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    Image.fromarray(grey).rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    on_white = np.where(np.arange(16) < 8, grey, 255)
    expected = {"deep": grey, "clear": on_white, "turned": grey}
    prompts = [Prompt(name, name) for name in expected]
    references = References(tmp_path, protocol(height=16, width=16), prompts)
    for prompt in prompts:
        assert (references.read(prompt).numpy() == expected[prompt.id]).all(), prompt.id


def restarting(tmp_path):
    """Two files of prompts whose ids both begin at 0, as those of HPSv2 and GenEval do."""
    (tmp_path / "prompts").mkdir()
    for style in ("anime", "photo"):
        rows = "".join(f'{{"id": "{n}", "prompt": "{style} {n}"}}\n' for n in range(2))
        (tmp_path / "prompts" / f"{style}.jsonl").write_text(rows, encoding="utf-8")
    return import_prompts(tmp_path / "prompts").prompts


def write_pictures(folder, *names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number,) * 3).save(folder / f"{name}.png")
    return folder


def test_ids_that_begin_anew_in_each_file_are_told_apart_by_folders(tmp_path):
    prompts, same = restarting(tmp_path), protocol(height=8, width=8)
    flat = References(write_pictures(tmp_path / "flat", "0", "1"), same, prompts)
    assert len(flat.missing()) == 4
    assert flat.ambiguous()[0] == "id '0' occurs in anime, photo, 0.png could be of any"
    names = ["anime/0", "anime/1", "photo/0"]
    apart = References(write_pictures(tmp_path / "apart", *names), same, prompts)
    assert [apart.file(prompt) and apart.read(prompt).unique().tolist() for prompt in prompts] == [[0], [1], [2], None]
    assert apart.ambiguous() == [] and apart.missing() == ["1"]


def test_what_does_not_match_is_named_on_both_sides(tmp_path):
    prompts = [Prompt("a", "a"), Prompt("b", "b"), Prompt("x-1", "c", given="Ölfarbe")]
    folder = write_pictures(tmp_path / "real", "a", "more/a", unicodedata.normalize("NFD", "Ölfarbe"), "c")
    references = References(folder, protocol(height=8, width=8), prompts)
    assert references.ambiguous() == ["id 'a' could be a.png or more/a.png"]
    # composed otherwise, as another system's file names are, it is the same name
    assert references.file(prompts[2]) is not None and references.missing() == ["a", "b"]
    assert references.remarks() == [
        f"References: 1 of 3 prompts have one in {folder}.",
        "Without a reference: a, b.",
        "3 files there of no prompt: a.png, c.png, more/a.png.",
    ]
