"""Runs whose repeated blocks go through torch.compile. Traced and run op by op ("eager") they are plain runs, bit for
bit; kernels of inductor's round otherwise. Tracing takes seconds, so that all of it is slow."""

import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from seppo_core.config.loader import resolved_yaml
from seppo_core.config.options import ExportRequest
from seppo_core.models.compiling import COMPILERS, check_compiler
from seppo_core.run.history import read_metrics
from seppo_image import commands
from tests.dying import killed_before_update
from tests.training.test_processes import trained
from tests.training.test_resume import assert_same_run
from tests.training.together import start

# torch hides it as it compiles, but not from a filter that makes errors of warnings
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


def config_of(workshop, run, mode: str, backend: str | None, **loop):
    """A run with a running average, previews, held-out items, and half of the parts recomputed."""
    config = workshop.config(run, mode)
    changed = {"gradient_checkpointing": True, "checkpointing_share": 0.5, "compile": backend, "validate_every": 3}
    return replace(
        config,
        loop=replace(config.loop, **(changed | loop)),
        data=replace(config.data, validation=0.3),
        optimizer=replace(config.optimizer, ema_decay=0.9),
        preview=replace(config.preview, prompts=("a red wall", "a blue wall"), every=3, per_prompt=1, steps=2),
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_traced_run_is_the_plain_one_and_goes_on_where_it_stopped(workshop, tmp_path, mode):
    plain, run = tmp_path / "plain", tmp_path / "run"
    commands.train(config_of(workshop, plain, mode, None))
    torch._dynamo.reset()
    traced = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with killed_before_update(4):
        commands.train(config_of(workshop, run, mode, "eager"))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > traced
    commands.train(config_of(workshop, run, mode, "eager"))
    assert_same_run(run, plain)
    for update in (0, 3, 6):
        drawn = [folder / "previews" / f"update-{update:06d}.png" for folder in (run, plain)]
        assert drawn[0].read_bytes() == drawn[1].read_bytes()
    names = [[path.relative_to(folder) for path in sorted(folder.rglob("*.safetensors"))] for folder in (run, plain)]
    assert names[0] == names[1]
    for name in names[0]:
        assert load_file(run / name).keys() == load_file(plain / name).keys()
    commands.export(config_of(workshop, run, mode, "eager"), ExportRequest(out=str(tmp_path / "out")))
    if mode == "full":
        StableDiffusionPipeline.from_pretrained(tmp_path / "out")


@pytest.mark.slow
def test_shards_are_traced_too(workshop, tmp_path):
    told = {}
    for backend in (None, "eager"):
        path = tmp_path / f"{backend}.yaml"
        run = tmp_path / str(backend)
        loop = {"sharded": True, "micro_batch_size": 1}
        path.write_text(resolved_yaml(config_of(workshop, run, "full", backend, **loop)))
        status, told[backend] = trained(path, 2)
        assert status == 0, told[backend][-3000:]
    assert_same_run(tmp_path / "eager", tmp_path / "None")


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C compiler")
@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]
)
def test_inductor_s_kernels_come_close(workshop, tmp_path, device):
    for backend in (None, "inductor"):
        config = workshop.config(tmp_path / str(backend), "lora")
        loop = replace(config.loop, iterations=1, updates_per_iteration=2, compile=backend)
        samples = replace(config.reference_samples, batch_size=4)
        optimizer = replace(config.optimizer, warmup_updates=0)
        path = tmp_path / f"{backend}.yaml"
        path.write_text(resolved_yaml(replace(config, loop=loop, reference_samples=samples, optimizer=optimizer)))
        launch = start(1, "seppo_image", "train", path, log=tmp_path / f"{backend}.log", device=device)
        assert launch.finish() == 0, launch.output[-3000:]
    for a, b in zip(read_metrics(tmp_path / "inductor"), read_metrics(tmp_path / "None"), strict=True):
        for name in ("loss", "winner_error", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-3), name


def test_without_a_compiler_it_is_refused(monkeypatch, tmp_path):
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    check_compiler("eager")
    check_compiler(None)
    with pytest.raises(ValueError, match=r"loop\.compile=inductor needs a C compiler, and PATH has none \(cc, gcc"):
        check_compiler("inductor")
