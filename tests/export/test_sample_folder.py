"""A folder of samples grows, says how each was drawn, and never loses one."""

from pathlib import Path

import pytest

from seppo_core.export.sample_folder import SampleFolder

SETTINGS = {"checkpoint": "update-000004", "steps": 50}


def drawn(folder: Path, prompts: list[str], seeds: list[int], **changes) -> list[str]:
    """Adds what is missing; the names of the files."""
    samples, names = SampleFolder(folder, SETTINGS | changes), []
    for prompt, seed in samples.missing(prompts, seeds):
        stem = samples.stem(prompt, seed)
        path = stem.with_name(f"{stem.name}.png")
        assert not path.exists()
        path.write_text(f"{prompt} {seed}")
        samples.add(path, prompt, seed)
        names.append(path.name)
    return names


def test_what_is_new_is_added_under_the_number_of_its_prompt(tmp_path):
    assert drawn(tmp_path, ["a", "b", "a"], [0, 7]) == [
        "00000-seed0.png", "00000-seed7.png", "00001-seed0.png", "00001-seed7.png",
    ]  # fmt: skip
    assert drawn(tmp_path, ["c", "a"], [0, 1]) == ["00002-seed0.png", "00002-seed1.png", "00000-seed1.png"]
    assert drawn(tmp_path, ["a", "b", "c"], [0]) == []


def test_a_table_of_another_kind_is_left_as_it_is(tmp_path):
    (tmp_path / "samples.jsonl").write_text('{"file_name": "a.png", "caption": "a"}\n')
    with pytest.raises(ValueError, match=r"samples\.jsonl is no index of samples .*; name another folder with --out"):
        drawn(tmp_path, ["a"], [0])
    assert (tmp_path / "samples.jsonl").read_text() == '{"file_name": "a.png", "caption": "a"}\n'


def test_a_file_that_no_line_names_is_left_alone_and_one_that_is_gone_is_drawn_again(tmp_path):
    (tmp_path / "00000-seed0.png").write_text("mine")
    assert drawn(tmp_path, ["a", "b"], [0]) == ["00001-seed0.png", "00002-seed0.png"]
    assert (tmp_path / "00000-seed0.png").read_text() == "mine"
    (tmp_path / "00001-seed0.png").unlink()
    # as a kill leaves it
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write('{"file": "0000')
    assert len(drawn(tmp_path, ["a", "b"], [0])) == 1
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 2


def test_another_model_or_solver_is_refused_by_name(tmp_path):
    drawn(tmp_path, ["a"], [0])
    with pytest.raises(
        ValueError, match=r"holds 'a' with seed 0 already \(00000-seed0.png\), .*steps 50 there, 20 now"
    ):
        drawn(tmp_path, ["b", "a"], [0], steps=20)
    assert drawn(tmp_path, ["b"], [0], steps=20) == ["00001-seed0.png"]
    (tmp_path / "samples.jsonl").write_text('{"file": "00000-seed0.png", "prompt": "a", "seed": 0}\n')
    with pytest.raises(ValueError, match="earlier version"):
        drawn(tmp_path, ["a"], [0])
