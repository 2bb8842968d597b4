"""`python -m benchmarks full_size`: bases of any size on disk, commands watched, and the committed table."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from transformers import CLIPTextModel, T5Tokenizer

from benchmarks.experiments.full_size import main as command
from benchmarks.experiments.full_size import run
from benchmarks.experiments.full_size.base import make_model, make_tokenizer, numbers_on_disk, write_base
from benchmarks.experiments.full_size.cases import CASES, Case
from benchmarks.experiments.full_size.report import FORMAT, Beside, as_json, markdown, millions, read_results
from benchmarks.experiments.full_size.run import CommandFailed, watch
from benchmarks.experiments.speed.models import BASES
from seppo_core.plan.architecture import ArchitectureConfig, pipeline_architecture
from tests.contract.rows import FAMILIES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SMALL = {
    "unet": {"block_out_channels": [32, 32, 64, 64], "cross_attention_dim": 32, "attention_head_dim": 4},
    "vae": {"block_out_channels": [32, 32, 32, 32]},
    "text_encoder": {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
}
"""An SD-1.5 of a few million parameters, most of them CLIP's words."""


@pytest.fixture(scope="module")
def numbers() -> ArchitectureConfig:
    return pipeline_architecture("stable-diffusion-v1-5/stable-diffusion-v1-5", BASES["image"])


def test_a_base_loads_in_plain_diffusers_and_reads_text(numbers, tmp_path):
    counts = write_base(tmp_path, numbers, SMALL, torch.bfloat16)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None, torch_dtype=torch.bfloat16)
    modules = {name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder")}
    assert counts == {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    assert sum(counts.values()) == numbers_on_disk(tmp_path)
    assert {p.dtype for module in modules.values() for p in module.parameters()} == {torch.bfloat16}
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a red fox", num_inference_steps=1, height=64, width=64, output_type="pt").images
    assert picture.shape == (1, 3, 64, 64) and picture.isfinite().all()


def test_clip_s_tokens_are_where_its_text_encoder_looks_for_them(numbers, tmp_path):
    tokenizer = make_tokenizer("CLIPTokenizer", 77, tmp_path)
    ids = tokenizer(["a red fox"], padding="max_length", truncation=True).input_ids[0]
    config = CLIPTextModel.config_class.from_dict(numbers.parts["text_encoder"])
    assert len(ids) == 77 and len(tokenizer) == config.vocab_size
    assert (ids[0], ids[-1]) == (config.bos_token_id, config.eos_token_id) or ids[-1] == config.vocab_size - 1
    assert len(set(ids[1:8])) > 4, "letters are told apart"


def test_a_unigram_tokenizer_stands_for_the_others(tmp_path):
    tokenizer = make_tokenizer("GemmaTokenizerFast", 20, tmp_path)
    assert isinstance(tokenizer, T5Tokenizer) and tokenizer.model_max_length == 20
    assert tokenizer(["ab"]).input_ids != tokenizer(["ba"]).input_ids


def test_what_a_base_has_not_cannot_be_changed(numbers, tmp_path):
    for parts, words in [({"unet": {"num_layers": 1}}, "unet.num_layers"), ({"transformer": {}}, "transformer")]:
        with pytest.raises(ValueError, match=f"have no {words} to change"):
            write_base(tmp_path, numbers, parts, torch.bfloat16)
    assert not list(tmp_path.iterdir())


def test_a_model_is_made_in_its_dtype_and_leaves_the_default(numbers):
    made = make_model(numbers.index["vae"], numbers.parts["vae"] | SMALL["vae"], torch.bfloat16)
    assert made.dtype == torch.bfloat16 and torch.get_default_dtype() == torch.float32


def test_every_case_names_a_recipe_a_row_of_the_table_and_what_its_base_has():
    assert {case.family for case in CASES.values()} <= {family.name for family in FAMILIES}
    for case in CASES.values():
        recipe = yaml.safe_load((ROOT / "configs" / f"{case.recipe}.yaml").read_text(encoding="utf-8"))
        numbers = pipeline_architecture(recipe["model"]["base"], BASES[case.modality])
        for name, changed in case.parts.items():
            assert set(changed) <= set(numbers.parts[name]), case.recipe
        assert bool(case.parts) == bool(case.less)
        assert case.tune == recipe.get("tune", {}).get("mode", "full")


def test_memory_is_what_a_command_has_at_the_time(tmp_path):
    """A quarter of a gibibyte, written, held and let go."""
    code = "import time; time.sleep(1); held = bytearray(b'1') * (1 << 28); time.sleep(1.5); del held; time.sleep(1)"
    ticks = []
    seen = watch(["-c", code], tmp_path, tmp_path / "log.txt", 1, lambda: ticks.append(None))
    before, after = seen.looks[1][1], seen.looks[-1][1]
    assert seen.peak - before == pytest.approx(1 << 28, rel=0.1)
    assert abs(after - before) < 1 << 25 and len(ticks) >= len(seen.looks) > 5
    begin = seen.looks[0][0]
    assert seen.peak_between(begin, begin + 0.5) - before < 1 << 26
    assert seen.peak_between(begin, begin + seen.seconds) - before == pytest.approx(1 << 28, rel=0.1)
    assert seen.peak_between(begin + 100, begin + 200) == 0


def test_a_command_that_fails_shows_its_last_words(tmp_path):
    with pytest.raises(CommandFailed, match=r"status 3:\nout of luck"):
        watch(["-c", "import sys; print('out of luck'); sys.exit(3)"], tmp_path, tmp_path / "log.txt", 1)


def test_results_come_back_as_they_were_written(tmp_path):
    results = read_results(DOCS / "full_size.json")
    assert as_json(results) == json.loads((DOCS / "full_size.json").read_text(encoding="utf-8"))
    assert read_results(tmp_path / "none.json") == {}
    (tmp_path / "old.json").write_text(json.dumps({"format": FORMAT - 1, "cases": {}}))
    with pytest.raises(ValueError, match="write to another --out"):
        read_results(tmp_path / "old.json")


def test_the_committed_table_is_that_of_the_committed_results():
    results = read_results(DOCS / "full_size.json")
    assert (DOCS / "full_size.md").read_text(encoding="utf-8") == markdown(results)
    assert list(results) == [name for name in CASES if name in results]
    for name, result in results.items():
        case = CASES[name]
        assert (result.about, result.family, result.less, result.tune) == (
            case.about,
            case.family,
            case.less,
            case.tune,
        )


def test_numbers_as_people_say_them():
    assert [millions(n) for n in (6_377_472, 859_520_964, 2_567_000_000)] == ["6.4 M", "860 M", "2.57 B"]


def test_a_first_update_that_is_none_is_refused():
    result = next(iter(read_results(DOCS / "full_size.json").values()))
    run.check(result)
    wrong = [{"loss": 0.7}, {"grad_norm": float("inf")}, {"moved": 0}, {"planned_trained": 1}, {"winner_error": 0.0}]
    for change in wrong:
        with pytest.raises(CommandFailed, match=next(iter(change)).removeprefix("planned_")):
            run.check(replace(result, **change))


@pytest.mark.parametrize("options", [["--threads", "0"], ["--only", "sd9"]])
def test_mistakes_are_told_before_anything_runs(options, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(options)
    assert stopped.value.code == 2 and options[1] in capsys.readouterr().err


@pytest.mark.slow
def test_a_case_runs_from_nothing_to_an_export(tmp_path, monkeypatch, capsys):
    """The real commands on a small base; an image case through the command, its result kept beside another's."""
    case = Case("image/sd15_lora_seppo", "stable-diffusion", "a small one", {"height": 64, "width": 64}, SMALL, "small")
    monkeypatch.setitem(CASES, "sd15", case)
    monkeypatch.setattr(command, "NEEDED", 1e9)
    # the plan is that of the published numbers unless a folder says otherwise, as it does here
    options = ["--threads", "1", "--scratch", str(tmp_path / "scratch"), "--out", str(tmp_path / "docs")]
    assert command.main(["--only", "sd15", *options]) == 0
    result = read_results(tmp_path / "docs" / "full_size.json")["sd15"]
    assert result.loss == pytest.approx(0.693147, abs=1e-5) and result.denoiser < 2e7
    assert result.exported == result.trained == result.planned_trained
    assert 0.9 * result.trained < result.moved <= result.trained
    assert 0 < result.update.measured < 1 << 30 and isinstance(result.prepare, Beside)
    assert not list((tmp_path / "scratch").iterdir())
    assert "a small one (small)" in (tmp_path / "docs" / "full_size.md").read_text(encoding="utf-8")
    # a case that fails leaves the others' results, and what it had
    monkeypatch.setitem(CASES, "sd15-full", replace(case, data={"height": 60, "width": 64}))
    assert command.main(["--only", "sd15-full", "sd15", *options]) == 1
    assert (tmp_path / "scratch" / "sd15-full" / "config.yaml").is_file()
    assert "failed: sd15-full" in capsys.readouterr().err
    assert asdict(read_results(tmp_path / "docs" / "full_size.json")["sd15"])["case"] == "sd15"
