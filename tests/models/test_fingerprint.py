"""A base is known by the content of its files: every weight and every vocabulary counts, precision and place do not."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from seppo_core.config.options import ExportRequest, SampleRequest, TrainRequest
from seppo_core.models.fingerprint import denoiser_fingerprint, difference, frozen_fingerprint
from seppo_image import commands

UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
SIGNS = {
    "fingerprint": "UNet2DConditionModel a89fdf4fd8b59ee5",
    "frozen": "CLIPTextModel+AutoencoderKL 4648f14b09c79662",
}
"""What earlier versions recorded of the tests' tiny base."""


def scale(file, factor: float) -> None:
    save_file({name: tensor * factor for name, tensor in load_file(file).items()}, file, {"format": "pt"})


def rewrite(file, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture
def base(workshop, tmp_path):
    shutil.copytree(workshop.base, tmp_path / "base")
    return tmp_path / "base"


def test_each_part_is_told_by_its_content(workshop, base, tmp_path):
    model = replace(workshop.config(tmp_path).model, base=str(base))
    config = replace(workshop.config(tmp_path), model=model)
    adapter = commands.load(config)
    fingerprints = lambda: (denoiser_fingerprint(adapter, model), frozen_fingerprint(adapter, model))  # noqa: E731
    before = fingerprints()
    changes = {
        "unet": lambda: scale(base / UNET, 1.5),
        "vae": lambda: scale(base / VAE, 1.3),
        "text_encoder": lambda: scale(base / "text_encoder/model.safetensors", 1.1),
        "tokenizer": lambda: (base / "tokenizer/tokenizer.json").write_bytes(b"{}"),
        "scheduler": lambda: rewrite(base / "scheduler/scheduler_config.json", prediction_type="v_prediction"),
    }
    seen = []
    for part, change in changes.items():
        change()
        seen.append(fingerprints())
        frozen = part in ("vae", "text_encoder", "tokenizer")
        last = seen[-2] if len(seen) > 1 else before
        assert (seen[-1][0] != last[0], seen[-1][1] != last[1]) == (not frozen, frozen)
        assert difference(last[frozen], seen[-1][frozen]) == part
    # versions and precision are noted in configs and change nothing; another variant beside is not loaded
    rewrite(base / "vae/config.json", _diffusers_version="0.1", _name_or_path="elsewhere")
    shutil.copy(base / UNET, base / "unet/diffusion_pytorch_model.fp16.safetensors")
    assert fingerprints() == seen[-1]
    adapter.pipeline.to(torch.bfloat16)
    assert fingerprints() == seen[-1]
    # the file that takes a part's place counts, and the one it stands for does not
    other = replace(model, vae=str(workshop.base / "vae"))
    assert difference(frozen_fingerprint(adapter, other), seen[-1][1]) == "vae"


def test_what_earlier_versions_recorded_is_still_compared(workshop, base, tmp_path):
    model = replace(workshop.config(tmp_path).model, base=str(base))
    adapter = commands.load(replace(workshop.config(tmp_path), model=model))
    assert denoiser_fingerprint(adapter, model, like=SIGNS["fingerprint"]) == SIGNS["fingerprint"]
    assert frozen_fingerprint(adapter, model, like=SIGNS["frozen"]) == SIGNS["frozen"]


@pytest.fixture(scope="module")
def trained(workshop, tmp_path_factory):
    """A run of one update on a base of its own."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(workshop.base, root / "base")
    config = workshop.config(root / "run", "lora")
    config = replace(
        config,
        model=replace(config.model, base=str(root / "base")),
        loop=replace(config.loop, iterations=1, updates_per_iteration=2),
        optimizer=replace(config.optimizer, warmup_updates=0),
    )
    commands.train(config)
    return config, root


@pytest.mark.parametrize(
    ("file", "factor"),
    [pytest.param(UNET, 1.5, id="unet"), pytest.param(VAE, 1.3, id="vae", marks=pytest.mark.slow)],
)
def test_other_weights_in_place_of_the_base_are_refused(trained, tmp_path, file, factor):
    config, root = trained
    whole = (root / "base" / file).read_bytes()
    scale(root / "base" / file, factor)
    try:
        with pytest.raises(ValueError, match=file.partition("/")[0]):
            commands.train(config)
        with pytest.raises(ValueError, match="begun on other weights"):
            commands.sample(config, SampleRequest(prompts=("a red wall",), out=str(tmp_path / "samples")))
        with pytest.raises(ValueError, match="--accept_changes model"):
            commands.export(config, ExportRequest(out=str(tmp_path / "export")))
        commands.export(config, ExportRequest(out=str(tmp_path / "export"), accept_changes=("model",)))
    finally:
        (root / "base" / file).write_bytes(whole)


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on_and_is_recorded_anew(trained, capsys):
    config, root = trained
    path = root / "run" / "model.json"
    now = path.read_text()
    path.write_text(json.dumps({"fingerprint": SIGNS["fingerprint"]}) + "\n")
    shutil.rmtree(root / "run" / "checkpoints" / "update-000002", ignore_errors=True)
    commands.train(config, TrainRequest())
    assert path.read_text() == now
    path.write_text(json.dumps({"fingerprint": SIGNS["fingerprint"].replace("a", "b")}) + "\n")
    with pytest.raises(ValueError, match="begun on other weights"):
        commands.train(config)
    path.write_text(now)
