"""docs/families.md and the README's table are what the contract yields, and what it counts is what pytest runs."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from seppo_image.config import ImageModel
from seppo_video.config import VideoModel
from tests.contract.families import FAMILIES
from tests.contract.table import FILES, MODULES, adapter_class, cases, row, table

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "families.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- families:begin -->\n", "<!-- families:end -->\n"


def test_the_committed_table_is_what_the_contract_yields():
    if os.environ.get("SEPPO_WRITE"):
        FILE.write_text(table(), encoding="utf-8")
        before, _, after = README.read_text(encoding="utf-8").partition(BEGIN)
        README.write_text(before + BEGIN + rows() + END + after.partition(END)[2], encoding="utf-8")
    assert rows() in README.read_text(encoding="utf-8")
    assert FILE.read_text(encoding="utf-8") == table(), (
        "the contract has changed; SEPPO_WRITE=1 python -m pytest tests/contract/test_table.py writes the table anew"
    )


def rows() -> str:
    """The table alone, as the README has it."""
    return "".join(line + "\n" for line in table().splitlines() if line.startswith("|"))


def test_every_family_of_a_config_has_a_row():
    from seppo_image.commands import FAMILIES as images
    from seppo_video.commands import FAMILIES as videos

    assert {adapter_class(family) for family in FAMILIES} == {*images.values(), *videos.values()}
    for model, families in [(ImageModel, images), (VideoModel, videos)]:
        assert set(model.__annotations__["family"].__args__) == set(families)


def test_every_family_has_its_curve():
    stored = json.loads((ROOT / "tests" / "contract" / "curves.json").read_text())
    assert sorted(stored) == sorted(family.name for family in FAMILIES)


def test_a_row_says_what_a_family_can():
    by_name = {family.name: family for family in FAMILIES}
    assert "(peft)" in row(by_name["pixart-sigma"])
    assert "(load_lora_weights)" in row(by_name["sdxl"])
    assert "(all, motion, spatial)" in row(by_name["animatediff-sdxl"])
    assert "(LoRA, pipeline, motion)" in row(by_name["animatediff-sdxl"])
    # which no published base is of
    assert "4 × 2 × 4 × 6: 5 frames of 32 × 48 pixels" in row(by_name["wan-flow-match"])
    assert "SDXL: 2.57 B parameters, 1024 × 1024" in row(by_name["sdxl"])
    # a family that no test of mistakes names has fewer
    mistakes = [int(re.search(r"(\d+) mistakes", row(family))[1]) for family in FAMILIES]
    assert min(mistakes) < max(mistakes)
    unnamed = replace(by_name["sdxl"], name="none")
    assert not [case for module in MODULES for case in cases(module, unnamed)]


def test_counts_are_pytest_s_own():
    """Against pytest's collection, which parametrises by itself; a case's identifier ends in the family's name."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-m", "", *map(str, FILES)]
    # options of the caller would change what is listed
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    listed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    collected = [line for line in listed.splitlines() if "::" in line]
    counted = sum(len(list(cases(module, family))) for module in MODULES for family in FAMILIES)
    assert counted == len(collected)
    training = next(module for module in MODULES if module.__name__.endswith("test_training"))
    # names within other names ("sdxl" in "animatediff-sdxl") leave those that are not
    whole = Counter(line[line.index("[") + 1 : -1].split("-")[-1] for line in collected if "test_training" in line)
    for name in ("ltx", "sana", "hunyuan"):
        family = next(family for family in FAMILIES if family.name == name)
        assert len(list(cases(training, family))) == whole[name]
