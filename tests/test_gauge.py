"""The gauge must see the smallest difference; its runs themselves are too long for a test."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def gauge(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import gauge_compare

    yield gauge_compare
    del sys.modules["gauge_compare"]


def write_run(folder: Path, loss: float, weight: float) -> Path:
    checkpoint = folder / "checkpoints" / "update-000002"
    checkpoint.mkdir(parents=True)
    save_file({"weight": torch.tensor([1.0, weight])}, checkpoint / "policy.safetensors")
    rows = [{"update": 1, "loss": math.nan, "seconds": 1.5}, {"update": 2, "loss": loss, "data_seconds": loss}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("winners.json", "model.json"):
        (folder / name).write_text("{}")
    return folder


def test_the_last_digit_of_a_loss_or_a_weight_is_a_difference(gauge, tmp_path):
    loss, weight = 0.4150000214576721, 0.25
    next_weight = torch.nextafter(torch.tensor(weight), torch.tensor(1.0)).item()
    facts = gauge.run_facts(write_run(tmp_path / "a", loss, weight))
    assert gauge.first_difference(facts, gauge.run_facts(write_run(tmp_path / "b", loss, weight))) is None
    other = gauge.run_facts(write_run(tmp_path / "c", math.nextafter(loss, 1), weight))
    assert gauge.first_difference(facts, other)[:2] == ("metrics.1.loss", repr(loss))
    other = gauge.run_facts(write_run(tmp_path / "d", loss, next_weight))
    assert gauge.first_difference(facts, other).key == "weights.policy.safetensors.weight"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ({"a": [1, 2]}, {"a": [1]}, "a.length"),
        ({"a": 1}, {}, "a"),
        ({}, {"a": None}, "a"),
        ({"a": 1}, {"a": 1.0}, "a"),
        ({"a": {"b": 0.0}}, {"a": {"b": -0.0}}, "a.b"),
    ],
)
def test_missing_values_and_other_types_are_differences(gauge, old, new, key):
    assert gauge.first_difference(old, new).key == key
    assert gauge.first_difference(old, old) is None


def test_metadata_of_an_export_may_come_in_any_order(gauge, tmp_path):
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / name).mkdir()
        metadata = {str(number): "value" for number in range(20)}
        save_file({"weight": torch.tensor([value])}, tmp_path / name / "lora.safetensors", metadata)
    a, b, c = (gauge.export_facts(tmp_path / name) for name in "abc")
    assert gauge.first_difference(a, b) is None
    assert gauge.first_difference(a, c).key == "weights.lora.safetensors.bytes"
