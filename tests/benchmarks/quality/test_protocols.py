"""Protocols are plain values: their metrics exist, their bundled prompts are there, and changes do not go unsaid."""

import dataclasses
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks.evaluation.columns import columns_of, mode_of, needs_references, parse_places
from benchmarks.evaluation.folder import Plan
from benchmarks.evaluation.prompt_files import import_prompts
from benchmarks.evaluation.prompts import Prompt
from benchmarks.evaluation.protocols import BUNDLED, PROTOCOLS, SETS, changed, label, with_changes


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda p: p.name)
def test_protocols_hold_together(protocol):
    assert set(protocol.sets) <= SETS.keys()
    for metric in protocol.metrics:
        assert columns_of(metric, protocol.kind)
    # what compares with real samples is asked for exactly where they are said to be needed
    assert bool(needs_references(protocol.metrics, protocol.kind)) == protocol.references
    assert (protocol.frames > 1) == (protocol.kind == "video")
    assert protocol.seed_mode == "per_prompt" and changed(protocol) == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.steps = 1


@pytest.mark.parametrize("known", [known for known in SETS.values() if known.bundled], ids=lambda k: k.name)
def test_bundled_prompts_are_complete(known):
    found = import_prompts(BUNDLED / known.bundled, known.name)
    assert len(found) == found.rows == known.rows and not found.skipped
    assert found.columns() == ["category", "challenge"]


def test_changes_are_in_the_label():
    protocol = PROTOCOLS["partiprompts"]
    assert label(protocol, "partiprompts") == "partiprompts"
    other = with_changes(protocol, {"steps": 20, "seeds": (1, 2), "scheduler": None})
    assert label(other, "partiprompts", 5) == "partiprompts (steps=20, seeds=1 2, first 5 prompts)"
    authors = PROTOCOLS["seppo-t2i-sd15"]
    assert label(authors, "hpsv2-benchmark") == "seppo-t2i-sd15 (hpsv2-benchmark)"
    # metrics can be added later and change no sample
    assert changed(with_changes(protocol, {"metrics": ("clip_score",)})) == {}


def test_a_published_name_is_claimed_for_the_published_prompts_alone(tmp_path):
    def named(protocol: str, prompts) -> str:
        return Plan(PROTOCOLS[protocol], prompts, ()).label

    published = import_prompts(BUNDLED / "smoke-image.jsonl", "smoke-image")
    assert named("smoke-image", published) == "smoke-image"
    assert named("smoke-image", published.first(4)) == "smoke-image (first 4 prompts)"
    # as many others
    others = replace(published, prompts=tuple(replace(p, text=f"{p.text}!") for p in published.prompts))
    assert named("smoke-image", others) == "smoke-image (other prompts)"
    assert named("smoke-image", others.first(4)) == "smoke-image (first 4 prompts, other prompts)"
    unknown = replace(published, name="pickapic-validation")
    assert named("pickapic-validation", unknown) == "pickapic-validation (other prompts)"
    as_many = replace(unknown, prompts=tuple(Prompt(str(n), str(n)) for n in range(500)))
    assert named("pickapic-validation", as_many) == "pickapic-validation (prompts not checked)"


def test_an_image_scorer_becomes_three_columns_of_a_clip():
    assert [column.name for column in columns_of("image_reward", "image")] == ["image_reward"]
    frames = columns_of("image_reward", "video")
    assert [(c.name, c.better) for c in frames] == [
        ("image_reward_frame_mean", 1), ("image_reward_frame_min", 1), ("image_reward_frame_sd", -1),
    ]  # fmt: skip
    assert columns_of("pickscore_cos", "image")[0].title == "pickscore_cos ×100"
    assert columns_of("lpips_alex", "video")[0].title == "lpips_alex ↓"
    assert mode_of("fid[clean]", "image") == "set"
    with pytest.raises(ValueError, match="for pictures use fid"):
        mode_of("fvd[styleganv,16f]", "image")


def test_places_of_weights():
    assert parse_places(["hps_v2.1.weights=/a/b.pt", "hps_v2.1.tokenizer=c/d"]) == {
        "hps_v2.1": {"weights": "/a/b.pt", "tokenizer": "c/d"}
    }
    for given, message in [
        ("hps_v2.1", "should be METRIC.PART=PLACE"), ("nope.weights=x", "no metric 'nope'"),
        ("hps_v2.1.head=x", "reads weights, tokenizer"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            parse_places([given])


@pytest.mark.parametrize("arguments", [["quality", "run", "--help"], ["quality", "doctor", "--help"], ["table3"]])
def test_help_and_published_tables_load_no_torch(arguments):
    code = (
        "import sys; from benchmarks.__main__ import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
