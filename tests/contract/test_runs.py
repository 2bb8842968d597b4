"""From a base on disk to an export: loading, refusals, and whole runs as the command line does them."""

import json
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from seppo_core.cli import commands as core_commands
from seppo_core.config.method import ReferenceSamplesConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.options import ExportRequest, SampleRequest
from seppo_core.config.schema import Config, TuneConfig
from seppo_core.config.training import LoopConfig, OptimizerConfig
from seppo_core.models.noise_path import DiffusionNoisePath, FlowNoisePath
from seppo_core.training.setup import load_policy_into
from seppo_image.config import ImageConfig, ImageData
from seppo_video.config import VideoConfig, VideoData
from seppo_video.frames import write_clip
from tests.contract.family import Family
from tests.contract.rows import FAMILIES
from tests.video.clips import moving
from tests.workshop import write_pictures

PROMPTS = ["a red house", "two cats"]
ELSEWHERE = ("stable-diffusion", "animatediff", "animatediff-sdxl")
"""Families that tests of their own load and train."""
CHOSEN = [row for row in FAMILIES if row.model.family not in ELSEWHERE]
ROWS = [row for row in CHOSEN if row is next(one for one in CHOSEN if one.model.family == row.model.family)]
FULL_FIRST = ("sana", "sd3", "ltx")
"""Families whose run in `make test` trains all weights; the others' trains a LoRA."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bases")


def base_of(bases: Path, row: Family) -> Path:
    """The row's tiny base on disk."""
    folder = bases / row.name
    if not folder.exists():
        row.pipeline(bases / "words").save_pretrained(folder)
    return folder


def commands_of(row: Family):
    return import_module("seppo_video.commands" if row.is_video else "seppo_image.commands")


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_loads_what_was_saved(bases, tmp_path, row, dtype):
    model = replace(row.model, base=str(base_of(bases, row)), dtype=dtype)
    adapter = row.adapter_class.load(model, getattr(torch, dtype))
    assert adapter.pipeline.text_encoder.dtype == adapter.denoiser.dtype == getattr(torch, dtype)
    assert adapter.pipeline.vae.dtype == torch.float32
    expected = row.pipeline(tmp_path).components[adapter.component].state_dict()
    for name, value in adapter.denoiser.state_dict().items():
        assert torch.equal(value, expected[name].to(value.dtype)), name
    # as it was loaded and without autocast: Wan keeps some of its weights in float32
    x_t, condition = normal(2, *row.latent_shape), adapter.encode_prompts(PROMPTS)
    with torch.no_grad():
        prediction = adapter.predict(adapter.denoiser, x_t, torch.tensor([10, 700]), condition)
    assert prediction.dtype == getattr(torch, dtype)
    assert prediction.isfinite().all()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_another_base_is_refused(bases, tmp_path, row):
    other = next(one for one in ROWS if one is not row).model.spec.pipeline
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": other}))
    with pytest.raises(ValueError, match=f"is a {other}; this family needs a {row.model.spec.pipeline}"):
        row.adapter_class.load(replace(row.model, base=str(tmp_path)), torch.float32)
    with pytest.raises(FileNotFoundError, match="none"):
        row.adapter_class.load(replace(row.model, base=str(tmp_path / "none")), torch.float32)
    # what is made for editing takes more than the VAE's latents
    pipeline = row.pipeline(tmp_path)
    denoiser = pipeline.components[row.adapter_class.component]
    channels = denoiser.config.in_channels
    denoiser.register_to_config(in_channels=2 * channels)
    with pytest.raises(ValueError, match=f"takes {2 * channels} .* channels"):
        row.wrap(pipeline)


def write_winners(folder: Path, row: Family) -> None:
    if not row.is_video:
        write_pictures(folder, 4)
        return
    folder.mkdir(parents=True)
    lines = []
    for number in range(4):
        write_clip(folder / f"{number}.mkv", moving(row.frames, 64, 96)[:, :, ::-1] // (number + 1), 8)
        lines.append(json.dumps({"file_name": f"{number}.mkv", "caption": f"a square before {number} hills"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def config_of(base: Path, root: Path, row: Family, mode: str) -> Config:
    schema, data = (VideoConfig, VideoData) if row.is_video else (ImageConfig, ImageData)
    frames = {"frames": row.frames} if row.is_video else {}
    flow = {"timestep_density": "logit_normal", "timestep_shift": 3.0} if row.model.spec.flow else {}
    return schema(
        run=str(root / "run"),
        model=replace(row.model, base=str(base)),
        data=data(
            source=str(root / "winners"), cache=str(root / "cache"), height=64, width=96, caption_dropout=0.3, **frames
        ),
        method=SeppoConfig(beta=50, **flow),
        reference_samples=ReferenceSamplesConfig(steps=2, guidance_scale=2.0, batch_size=3),
        tune=TuneConfig(mode=mode, rank=2, alpha=4),
        loop=LoopConfig(iterations=2, updates_per_iteration=2, batch_size=2, micro_batch_size=1),
        optimizer=OptimizerConfig(lr=1e-3),
    )


def drawn(pipeline: DiffusionPipeline, row: Family) -> Tensor:
    pipeline.set_progress_bar_config(disable=True)
    frames = {"num_frames": row.frames} if row.is_video else {}
    return pipeline(
        PROMPTS, num_inference_steps=2, height=64, width=96, output_type="pt",
        generator=torch.Generator().manual_seed(0), **row.guided(PROMPTS, 3.0), **frames, **row.call,
    )[0]  # fmt: skip


def cases() -> list:
    first = {row.name: "full" if row.model.family in FULL_FIRST else "lora" for row in ROWS}
    other = [(row, "full" if first[row.name] == "lora" else "lora") for row in ROWS]
    return [(row, first[row.name]) for row in ROWS] + [pytest.param(*case, marks=pytest.mark.slow) for case in other]


@pytest.mark.parametrize(("row", "mode"), cases(), ids=lambda value: getattr(value, "name", value))
def test_a_whole_run(bases, tmp_path, row, mode):
    """prepare, train, sample and export as the command line does, and plain diffusers on what was exported."""
    commands, base = commands_of(row), base_of(bases, row)
    write_winners(tmp_path / "winners", row)
    config = config_of(base, tmp_path, row, mode)
    commands.prepare(config)
    commands.train(config)
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 4
    assert metrics[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    commands.sample(config, SampleRequest(prompts=tuple(PROMPTS), steps=2, out=str(tmp_path / "samples")))
    assert len(list((tmp_path / "samples").glob("*.mp4" if row.is_video else "*.png"))) == 2
    commands.export(config, ExportRequest(out=str(tmp_path / "exported")))
    kind = getattr(diffusers, row.model.spec.pipeline)
    plain = kind.from_pretrained(tmp_path / "exported" if mode == "full" else base)
    if mode == "lora":
        row.load_lora(plain, tmp_path / "exported")
    adapter = commands.load(config)
    load_policy_into(adapter, config, "latest")
    torch.testing.assert_close(drawn(plain, row), drawn(adapter.pipeline, row), rtol=1e-3, atol=1e-3)


def test_the_method_s_timesteps_and_weights_reach_training(bases, tmp_path, monkeypatch):
    seen = []

    class Seen:
        previews = SimpleNamespace(telling_the_end=nullcontext)

        def __init__(self, parts):
            seen.append(parts.noise_path)

        def run(self):
            pass

    monkeypatch.setattr(core_commands, "Trainer", Seen)
    for name, method in [("flux-dev", None), ("sdxl", SeppoConfig(min_snr_gamma=5.0))]:
        row = next(row for row in ROWS if row.name == name)
        commands = commands_of(row)
        write_winners(tmp_path / name / "winners", row)
        config = config_of(base_of(bases, row), tmp_path / name, row, "lora")
        config = config if method is None else replace(config, method=method)
        commands.prepare(config)
        commands.train(config)
    flow, diffusion = seen
    assert isinstance(flow, FlowNoisePath)
    assert (flow.density, flow.shift) == ("logit_normal", 3.0)
    assert isinstance(diffusion, DiffusionNoisePath)
    assert diffusion.min_snr_gamma == 5.0
