"""What an export says of itself, after a real run on the workshop's base."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from seppo_core.config_file import load_config
from seppo_core.model_card import licence_of
from seppo_core.requests import ExportRequest, SampleRequest
from seppo_image import commands
from seppo_image.config import ImageConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(workshop, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    config = workshop.config(run, "lora")
    config = replace(config, optimizer=replace(config.optimizer, ema_decay=0.5))
    commands.train(config)
    return config


def test_the_card_says_base_method_data_settings_and_metrics(config, tmp_path):
    commands.export(config, ExportRequest(out=str(tmp_path / "out")))
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.pipeline_tag == "text-to-image"
    assert card.data.tags == ["preference-alignment", "seppo", "lora"]
    # a folder of this machine is not named to the world
    assert card.data.base_model is None
    assert str(tmp_path.parent.parent) not in card.text
    for said in (
        "arXiv 2410.05255",
        "| beta | 50 |",
        "10 items (winners)",
        "winner_error",
        "update-000006",
        "diffusers ",
    ):
        assert said in card.text, said
    assert "Licence of the base: unknown" in card.text
    assert load_config(tmp_path / "out" / "config.yaml", ImageConfig) == config


def test_the_licence_is_the_base_s_own(workshop, tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: openrail++\n---\n# A base\n")
    assert licence_of(str(tmp_path)) == "openrail++"
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: some-community\n---\n")
    assert licence_of(str(tmp_path)) == "some-community"
    (tmp_path / "README.md").write_text("no metadata at all\n")
    assert licence_of(str(tmp_path)) == "unknown"
    # offline, and not in the local cache
    assert licence_of("nobody/nothing") == "unknown"


def test_exports_are_the_average_unless_the_policy_is_asked_for(config, tmp_path):
    for weights in (None, "ema", "policy"):
        commands.export(config, ExportRequest(out=str(tmp_path / str(weights)), weights=weights))
    files = {name: load_file(next((tmp_path / name).glob("*.safetensors"))) for name in ("None", "ema", "policy")}
    assert all(torch.equal(files["None"][key], files["ema"][key]) for key in files["ema"])
    assert any(not torch.equal(files["policy"][key], files["ema"][key]) for key in files["ema"])


def test_a_run_without_an_average_says_so(workshop, tmp_path):
    config = workshop.config(tmp_path / "run", "lora")
    commands.train(config)
    with pytest.raises(FileNotFoundError, match=r"without optimizer\.ema_decay, use policy"):
        commands.export(config, ExportRequest(weights="ema"))
    with pytest.raises(FileNotFoundError, match=r"without optimizer\.ema_decay, use policy"):
        commands.sample(config, SampleRequest(prompts=("a",), weights="ema", steps=1))
    # nothing half-made is left
    assert not (tmp_path / "run" / "export").exists() or not any((tmp_path / "run" / "export").iterdir())


def test_a_whole_pipeline_in_half_precision(config, tmp_path):
    commands.export(config, ExportRequest(kind="full", out=str(tmp_path / "out"), dtype="bfloat16"))
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "out")
    stored = load_file(tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert pipeline.unet is not None


def test_an_export_that_is_there_is_refused_before_anything_loads(config, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(commands, "load", lambda _: pytest.fail("loaded"))
    with pytest.raises(FileExistsError, match="exists already and is not overwritten"):
        commands.export(config, ExportRequest(out=str(tmp_path / "out")))
