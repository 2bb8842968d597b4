"""From files on disk to files that plain diffusers loads, through the command line, images and clips."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline, MotionAdapter, StableDiffusionPipeline
from PIL import Image

from seppo_core.config.loader import resolved_yaml
from seppo_core.models.adapter import Adapter
from seppo_core.run.checkpoint import CheckpointFolder, load_policy
from seppo_core.run.history import read_metrics
from seppo_image import commands as image_commands
from seppo_image.__main__ import main as seppo_image
from seppo_image.commands import load
from seppo_video.__main__ import main as seppo_video
from tests import tiny


@pytest.fixture
def written(workshop, tmp_path):
    """Writes a config of the workshop to a file and returns its path."""

    def write(mode: str = "full", method: str = "seppo", **changes) -> Path:
        config = workshop.config(tmp_path / "run", mode, method)
        path = tmp_path / "config.yaml"
        path.write_text(resolved_yaml(replace(config, **changes)))
        return path

    return write


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def plain_latents(pipeline: StableDiffusionPipeline, noise: torch.Tensor) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    size = {"height": 64, "width": 64}
    options = {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "latent"}
    return pipeline("a red wall", latents=noise, **options, **size)[0]


@pytest.mark.parametrize(("mode", "kind"), [("full", "full"), ("lora", "lora"), ("lora", "full")])
def test_images_from_folder_to_export(workshop, written, tmp_path, mode, kind):
    path = str(written(mode))
    assert seppo_image(["train", path]) == 0
    out = tmp_path / "exported"
    assert seppo_image(["export", path, "--kind", kind, "--out", str(out)]) == 0
    plain = StableDiffusionPipeline.from_pretrained(
        workshop.base if kind == "lora" else out, safety_checker=None, feature_extractor=None
    )
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    base = plain_latents(StableDiffusionPipeline.from_pretrained(workshop.base, safety_checker=None), noise)
    if kind == "lora":
        plain.load_lora_weights(out)
    exported = plain_latents(plain, noise)
    assert (exported - base).abs().max() > 1e-3, "training left the model as it was"
    if kind == "lora":
        other = tmp_path / "comfyui"
        assert seppo_image(["export", path, "--format", "comfyui", "--out", str(other)]) == 0
        assert "`lora_comfyui.safetensors` goes into the folder `models/loras`" in (other / "README.md").read_text()
        plain.unload_lora_weights()
        plain.load_lora_weights(other)
        torch.testing.assert_close(plain_latents(plain, noise), exported, rtol=1e-4, atol=1e-5)

    config = workshop.config(tmp_path / "run", mode)
    adapter = load(config)
    image_commands.commands.load_policy_into(adapter, config, "latest")
    ours = plain_latents(adapter.pipeline, noise)
    torch.testing.assert_close(exported, ours, rtol=1e-3, atol=2e-4)


def test_training_lets_the_text_encoder_go_and_still_draws_its_prompts(workshop, tmp_path):
    config = workshop.config(tmp_path / "run", "lora")
    config = replace(config, preview=replace(config.preview, prompts=("a red wall",), every=1, steps=2))
    loaded = []

    def watched(*given) -> Adapter:
        loaded.append(load(*given))
        return loaded[-1]

    image_commands.commands.train(config, watched)
    assert [adapter.pipeline.text_encoder for adapter in loaded] == [None]
    assert loaded[0].pipeline.vae is not None
    assert len(list((tmp_path / "run" / "previews").glob("*.png"))) > 1


def test_sample_writes_every_prompt_with_every_seed(written, tmp_path, monkeypatch, capsys):
    path = str(written())
    assert seppo_image(["train", path]) == 0
    assert f"seppo-image export {path}" in capsys.readouterr().out
    out = tmp_path / "pictures"
    options = ["--steps", "2", "--guidance-scale", "2", "--seeds", "0", "1", "--out", str(out)]
    assert seppo_image(["sample", path, "--prompts", "a red wall", "<b>&", *options]) == 0
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["seed"]) for row in rows] == [
        ("a red wall", 0),
        ("a red wall", 1),
        ("<b>&", 0),
        ("<b>&", 1),
    ]
    assert all(picture(out / row["file"]).shape == (64, 64, 3) for row in rows)
    # what is there is not drawn again, which would load the model, and what is new is added
    with monkeypatch.context() as patch:
        patch.setattr(image_commands, "load", None)
        assert seppo_image(["sample", path, "--prompts", "a red wall", *options]) == 0
    more = [*options[:-2], "2", "--out", str(out)]
    kept = {file.name: file.stat().st_mtime_ns for file in out.glob("*.png")}
    assert seppo_image(["sample", path, "--prompts", "<b>&", "a blue wall", "--checkpoint", "6", *more]) == 0
    names = [json.loads(line)["file"] for line in (out / "samples.jsonl").read_text().splitlines()]
    assert names[4:] == [f"0000{number}-seed{seed}.png" for number, seed in ((1, 2), (2, 0), (2, 1), (2, 2))]
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    # a snapshot is another model
    assert seppo_image(["sample", path, "--prompts", "<b>&", "--checkpoint", "snapshot-0001", *more]) == 2
    assert "holds '<b>&' with seed 0 already" in capsys.readouterr().err
    assert seppo_image(["sample", path, "--prompts", "<b>&", "--checkpoint", "snapshot-0001", "--steps", "2"]) == 0
    assert (tmp_path / "run" / "samples" / "snapshot-0001" / "00000-seed0.png").exists()


def test_samples_do_not_depend_on_the_batch(written, tmp_path, workshop):
    path = str(written())
    assert seppo_image(["train", path]) == 0
    common = ["--steps", "2", "--seeds", "0", "1", "2", "--prompts", "a red wall", "a blue wall"]
    for size in ("1", "4"):
        assert seppo_image(["sample", path, *common, "--batch-size", size, "--out", str(tmp_path / size)]) == 0
    for row in (tmp_path / "1" / "samples.jsonl").read_text().splitlines():
        name = json.loads(row)["file"]
        one, four = (picture(tmp_path / size / name) for size in ("1", "4"))
        assert np.abs(one - four).max() <= 1


def test_previews_metrics_and_tensorboard(workshop, written, tmp_path):
    preview = replace(
        workshop.config(tmp_path).preview, prompts=("a red wall", "a blue wall"), every=4, steps=2, per_prompt=3
    )
    assert seppo_image(["train", str(written(preview=preview))]) == 0
    run = tmp_path / "run"
    assert sorted(p.name for p in (run / "previews").glob("*.png")) == [
        "update-000000.png",
        "update-000004.png",
        "update-000006.png",
    ]
    # two prompts down, three samples across
    start, end = (picture(run / "previews" / f"update-00000{update}.png") for update in (0, 6))
    assert start.shape == (2 * 64, 3 * 64, 3)
    # the start's samples of the same noise stand on the left
    assert end.shape == (2 * 64, 2 * 3 * 64 + 8, 3)
    assert (end[:, : 3 * 64] == start).all()
    assert (end[:, 3 * 64 + 8 :] != start).any()
    metrics = read_metrics(run)
    assert [line["update"] for line in metrics] == [1, 2, 3, 4, 5, 6]
    assert [line["iteration"] for line in metrics] == [0, 0, 0, 1, 1, 1]
    expected = {"loss", "winner_error", "winner_gap", "sample_gap", "margin", "implicit_accuracy", "share_s_plus"}
    assert expected | {"share_s_minus", "grad_norm", "lr", "reference", "seconds", "data_seconds"} <= metrics[0].keys()
    # policy and reference start as the same weights: log 2, and every sign a tie
    assert metrics[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert metrics[0]["share_s_minus"] == 1
    assert list((run / "tensorboard").glob("events.*"))


def test_lora_goes_on_from_an_existing_one(workshop, written, tmp_path):
    path = str(written("lora"))
    assert seppo_image(["train", path]) == 0
    assert seppo_image(["export", path, "--out", str(tmp_path / "first")]) == 0
    again = ["--model.lora", str(tmp_path / "first"), "--run", str(tmp_path / "second")]
    assert seppo_image(["train", path, *again]) == 0
    first = load_policy(CheckpointFolder(tmp_path / "run" / "checkpoints").latest())
    start = ReferencePoolReader(tmp_path / "second").initial()
    assert first.keys() == start.keys()
    assert all(torch.equal(first[name], start[name]) for name in first)
    # the file's alpha is kept: 4 on a rank of 2
    assert seppo_image(["train", path, *again, "--tune.rank", "3", "--run", str(tmp_path / "third")]) == 2


class ReferencePoolReader:
    """Reads a run's snapshots as a user would find them."""

    def __init__(self, run: Path):
        self.run = run

    def initial(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        return load_file(self.run / "pool" / "snapshot-0000.safetensors")


def test_cache_of_another_model_is_refused(workshop, tmp_path, capsys, written):
    other = tiny.stable_diffusion(tmp_path / "words")
    tiny.shake(other.text_encoder, seed=9, scale=1.0)
    other.save_pretrained(tmp_path / "other")
    assert seppo_image(["train", str(written()), "--model.base", str(tmp_path / "other")]) == 2
    error = capsys.readouterr().err
    assert "prepared with another VAE, text encoder or tokenizer than this model has (text_encoder)" in error
    assert "Traceback" not in error


def test_cache_of_another_size_is_refused(written, capsys):
    assert seppo_image(["train", str(written()), "--data.height", "128"]) == 2
    assert "prepare the data for it again" in capsys.readouterr().err


def test_decoded_and_encoded_samples_train_too(workshop, written, tmp_path):
    samples = replace(workshop.config(tmp_path).reference_samples, reencode=True)
    assert seppo_image(["train", str(written(reference_samples=samples))]) == 0
    assert len(read_metrics(tmp_path / "run")) == 6


@pytest.fixture(autouse=True)
def linear_betas_are_announced():
    """The tiny base has Stable Diffusion's betas, which AnimateDiff replaces, and says so."""
    with pytest.MonkeyPatch.context():
        import warnings

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "AnimateDiff's motion modules were trained on linear betas")
            yield


@pytest.mark.parametrize(
    ("tuning", "kind"),
    [
        (["--tune.mode", "lora", "--tune.scope", "motion"], "motion"),
        *(
            pytest.param(["--tune.mode", mode, "--tune.scope", scope], kind, marks=pytest.mark.slow)
            for mode, scope, kind in [("full", "motion", "motion"), ("lora", "all", "lora"), ("full", "all", "full")]
        ),
    ],
)
def test_clips_from_folder_to_export(clips, tmp_path, tuning, kind):
    path, run = str(clips / "config.yaml"), ["--run", str(tmp_path / "run")]
    assert seppo_video(["prepare", path]) == 0
    assert seppo_video(["train", path, *run, *tuning, "--tune.rank", "2"]) == 0
    out = tmp_path / "exported"
    assert seppo_video(["export", path, *run, *tuning, "--tune.rank", "2", "--kind", kind, "--out", str(out)]) == 0

    def pipeline(base, motion):
        options = {} if motion is None else {"motion_adapter": MotionAdapter.from_pretrained(motion)}
        plain = AnimateDiffPipeline.from_pretrained(base, **options, feature_extractor=None, image_encoder=None)
        # what the published motion modules want, set by hand as their users do
        plain.scheduler = tiny.linear_scheduler()
        plain.set_progress_bar_config(disable=True)
        return plain

    noise = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def latents(plain):
        return plain(
            "a bar moves", latents=noise, num_inference_steps=2, output_type="latent", height=64, width=64, num_frames=4
        )[0]

    base = latents(pipeline(clips / "base", clips / "motion"))
    if kind == "full":
        exported = pipeline(out, None)
    else:
        exported = pipeline(clips / "base", out if kind == "motion" else clips / "motion")
        if kind == "lora":
            exported.load_lora_weights(out)
    moved = latents(exported)
    assert (moved - base).abs().max() > 1e-3
    drawn = ["--out", str(tmp_path / "drawn"), "--lossless", "true", "--prompts", "a bar moves", "--steps", "2"]
    assert seppo_video(["sample", path, *run, *tuning, "--tune.rank", "2", *drawn]) == 0
    assert (tmp_path / "drawn" / "00000-seed0.mkv").stat().st_size > 0
