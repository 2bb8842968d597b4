"""docs/families.md says what the rows yield, and every family of a config has a row."""

import json
from dataclasses import fields

from seppo_core.config.model import ModelConfig
from seppo_image.config import ImageModel
from seppo_video.config import VideoModel
from tests.contract.curves import STORED
from tests.contract.rows import FAMILIES
from tests.contract.table import FILE, page, row


def test_the_committed_tables_are_what_rows_and_recipes_yield():
    assert FILE.read_text(encoding="utf-8") == page(), "run python -m tests.contract.table"


def test_every_family_of_a_config_has_a_row():
    records = ImageModel.variants() | VideoModel.variants()
    assert {family.model.family for family in FAMILIES} == set(records)
    for family in FAMILIES:
        assert tuple(family.adapter_class.trainable) == family.model.spec.scopes


def test_the_page_has_every_family_s_name_and_keys():
    text = FILE.read_text(encoding="utf-8")
    for record in (ImageModel.variants() | VideoModel.variants()).values():
        own = {field.name for field in fields(record)} - {field.name for field in fields(ModelConfig)}
        assert [name for name in (record.family, *own) if f"`{name}`" not in text] == []


def test_every_family_has_its_curve():
    assert sorted(json.loads(STORED.read_text())) == sorted(family.name for family in FAMILIES)


def test_a_row_says_what_a_family_can():
    by_name = {family.name: family for family in FAMILIES}
    assert "| peft |" in row(by_name["pixart-sigma"])
    assert "| load_lora_weights |" in row(by_name["sdxl"])
    assert "| all, motion, spatial | LoRA, pipeline, motion |" in row(by_name["animatediff-sdxl"])
    # which no published base is of
    assert "4 × 2 × 4 × 6: 5 frames of 32 × 48 pixels" in row(by_name["wan-flow-match"])
    assert "SDXL: 2.57 B parameters, 1024 × 1024" in row(by_name["sdxl"])
