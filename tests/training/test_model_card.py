"""What an export says of itself, after a real run on the workshop's base."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

from seppo_core.config.loader import load_config
from seppo_core.config.options import ExportRequest, SampleRequest
from seppo_core.export.model_card import licence_of, model_card
from seppo_image import commands
from seppo_image.config import ImageConfig
from seppo_video import commands as video_commands
from seppo_video import snippets
from seppo_video.animatediff import AnimateDiff
from seppo_video.config import VideoConfig
from tests import tiny


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


def code_of(folder: Path) -> str:
    """The Python that a card shows, which loads the export."""
    return blocks_of(folder)[0]


def blocks_of(folder: Path) -> list[str]:
    """What loads the export, and what draws a sample with it."""
    return re.findall(r"```python\n(.*?)\n```", (folder / "README.md").read_text(), re.DOTALL)


def run(code: str, **places: Path) -> DiffusionPipeline:
    """What the code makes once the places in capitals are named."""
    for name, place in places.items():
        code = code.replace(f'"{name}"', f'"{place}"')
    names: dict = {}
    exec(code, names)
    return names["pipe"]


def lora_parameters(pipe: DiffusionPipeline) -> int:
    return sum("lora_" in name for name, _ in pipe.unet.named_parameters())


def test_the_card_s_code_loads_the_whole_export_and_draws(config, tmp_path, monkeypatch):
    for kind in ("lora", "full"):
        commands.export(config, ExportRequest(kind=kind, out=str(tmp_path / kind)))
    code = code_of(tmp_path / "lora")
    assert code == (
        "from diffusers import StableDiffusionPipeline\n\n"
        'pipe = StableDiffusionPipeline.from_pretrained("BASE")\npipe.load_lora_weights("FOLDER")'
    )
    pipe = run(code, BASE=Path(config.model.base), FOLDER=tmp_path / "lora")
    written = load_file(next((tmp_path / "lora").glob("*.safetensors")))
    assert lora_parameters(pipe) == len(written) > 0
    monkeypatch.chdir(tmp_path)
    exec(blocks_of(tmp_path / "lora")[1].replace("num_inference_steps=50", "num_inference_steps=2"), {"pipe": pipe})
    with Image.open("sample.png") as drawn:
        assert drawn.size == (64, 64)
    assert code_of(tmp_path / "full").endswith('\n\npipe = StableDiffusionPipeline.from_pretrained("FOLDER")')
    assert isinstance(run(code_of(tmp_path / "full"), FOLDER=tmp_path / "full"), StableDiffusionPipeline)


@pytest.mark.filterwarnings("ignore:AnimateDiff's motion modules were trained on linear betas")
@pytest.mark.parametrize("scope", ["all", "motion"])
def test_a_card_names_both_halves_of_an_animated_base(clips, tmp_path, scope, monkeypatch):
    config = load_config(clips / "config.yaml", VideoConfig)
    config = replace(config, run=str(tmp_path), tune=replace(config.tune, mode="lora", scope=scope))
    places = {"BASE": clips / "base", "MOTION_ADAPTER": clips / "motion"}
    for kind in ("lora", "motion", "full"):
        out = tmp_path / kind
        video_commands.export(config, ExportRequest(kind=kind, checkpoint="base", out=str(out)))
        text, code = (out / "README.md").read_text(), code_of(out)
        assert "started from `base`, with the motion_adapter `motion`" in text
        assert (
            "Licence of the base: unknown; see where it comes from.\n\nLicence of the motion_adapter: unknown" in text
        )
        assert str(clips) not in text
        assert ('MotionAdapter.from_pretrained("MOTION_ADAPTER")' in code) == (kind == "lora")
        pipe = run(code, FOLDER=out, **places)
        assert type(pipe).__name__ == "AnimateDiffPipeline"
        assert pipe.scheduler.config.beta_schedule == "linear"
        if kind == "lora":
            assert lora_parameters(pipe) == len(load_file(next(out.glob("*.safetensors")))) > 0
            monkeypatch.chdir(tmp_path)
            exec(re.sub(r"num_inference_steps=\d+", "num_inference_steps=2", blocks_of(out)[1]), {"pipe": pipe})
            with Image.open("sample.gif") as drawn:
                assert drawn.n_frames == config.data.frames


def test_a_card_s_metadata_names_every_model_that_went_in(clips, tmp_path, monkeypatch):
    """Hub ids, which stand as they are; another VAE is no model that this one comes from."""
    config = load_config(clips / "config.yaml", VideoConfig)
    model = replace(config.model, base="some/base", motion_adapter="some/motion", vae="some/vae", revision="v2")
    config = replace(config, run=str(tmp_path), model=model)
    monkeypatch.setattr(snippets, "pipeline_class", lambda *_: "StableDiffusionPipeline")
    card = ModelCard(model_card(config, AnimateDiff(tiny.animatediff(tmp_path / "words")), "lora", "update-000002"))
    assert card.data.base_model == ["some/base", "some/motion"]
    assert "started from `some/base`, with the vae `some/vae`, with the motion_adapter `some/motion`." in card.text
    assert 'AnimateDiffPipeline.from_pretrained("some/base", revision="v2", vae=vae, motion_adapter=' in card.text
    assert 'MotionAdapter.from_pretrained("some/motion")' in card.text


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
    with pytest.raises(FileNotFoundError, match=r"the run keeps none \(optimizer\.ema_decay\); take the policy"):
        commands.export(config, ExportRequest(weights="ema"))
    with pytest.raises(FileNotFoundError, match=r"the run keeps none \(optimizer\.ema_decay\); take the policy"):
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
