"""Models of every form draw what they should; the authors' sequence equals diffusers' own pipeline."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.evaluation.folder import entry_of
from benchmarks.evaluation.generate import generate
from benchmarks.evaluation.models import ModelSpec, content_of, identity_of, parse_model, parse_models
from benchmarks.evaluation.prompts import Prompt, PromptSet
from benchmarks.evaluation.protocols import PROTOCOLS, with_changes
from benchmarks.evaluation.samplers import AdapterSampler, Job, PipelineSampler, load_sampler
from benchmarks.evaluation.store import SampleStore, sample_seed
from seppo_core.config.loader import resolved_yaml
from seppo_core.config.schema import TuneConfig
from seppo_core.export.weights import write_full, write_lora
from seppo_core.io.atomic import save_text
from seppo_core.io.rng import keyed_generator
from seppo_core.models.tuning import POLICY, trainable_state, tune_lora
from seppo_image.config import ImageConfig, ImageData
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny

CPU = torch.device("cpu")
PROMPTS = [Prompt(f"p{n}", text) for n, text in enumerate(["a red wall", "a blue wall", "green", "a dog", "a cat"])]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    root = tmp_path_factory.mktemp("base")
    tiny.stable_diffusion(root / "words").save_pretrained(root / "base")
    return root / "base"


def protocol(**changes):
    fixed = {"height": 64, "width": 64, "steps": 3, "seeds": (0,), "references": False, "guidance_scale": 3.0}
    return with_changes(PROTOCOLS["smoke-image"], fixed | changes)


def jobs(prompts=PROMPTS):
    return [Job(prompt.text, sample_seed(prompt, 0)) for prompt in prompts]


def close(first, second) -> bool:
    return np.abs(np.asarray(first).astype(int) - np.asarray(second).astype(int)).max() <= 1


def test_a_sequence_is_what_one_generator_gives_the_pipeline(base, tmp_path):
    sequential = protocol(seed_mode="sequential")
    generator = torch.Generator().manual_seed(0)
    pipeline = tiny.stable_diffusion(tmp_path / "words")
    expected = [
        np.asarray(pipeline(p.text, height=64, width=64, num_inference_steps=3, guidance_scale=3.0,
                            generator=generator).images[0])
        for p in PROMPTS
    ]  # fmt: skip
    store = SampleStore(tmp_path / "samples")
    load = lambda: load_sampler(ModelSpec("base", str(base)), sequential, CPU, "float32")  # noqa: E731
    generate(store, PROMPTS, sequential, load, {})
    drawn = [store.read(store.records[p.key, 0])[0].permute(1, 2, 0) for p in PROMPTS]
    assert all(close(a, b) for a, b in zip(drawn, expected, strict=True))
    # stopped after two and a lost file: the generator is brought to where it was
    for prompt in (PROMPTS[1], PROMPTS[3]):
        shutil.rmtree(tmp_path / "samples" / prompt.key)
    before = {key: record.sha256 for key, record in store.records.items()}
    again = SampleStore(tmp_path / "samples")
    assert generate(again, PROMPTS, sequential, load, {}).drawn == 2
    assert {key: record.sha256 for key, record in again.records.items()} == before


def test_a_sequence_needs_a_solver_that_draws_nothing(base):
    with pytest.raises(ValueError, match="draws noise at every step"):
        load_sampler(ModelSpec("b", str(base)), protocol(seed_mode="sequential", scheduler="ddpm"), CPU, "float32")


def test_a_sample_does_not_depend_on_its_batch_or_order(base):
    sampler = load_sampler(ModelSpec("base", str(base)), protocol(scheduler="ddpm"), CPU, "float32")
    together = sampler.draw(jobs())
    alone = torch.cat([sampler.draw([job]) for job in reversed(jobs())]).flip(0)
    assert close(together, alone)
    assert sampler.truncated(["a wall", "a very long prompt about a wall"]) == [1]


def test_any_other_pipeline_is_called_as_its_own_documentation_says(tmp_path):
    pipeline = tiny.stable_diffusion(tmp_path / "words")
    sampler = PipelineSampler(pipeline, protocol())
    drawn = sampler.draw(jobs()[:2])
    for job, frames in zip(jobs(), drawn, strict=False):
        expected = pipeline(job.prompt, height=64, width=64, num_inference_steps=3, guidance_scale=3.0,
                            generator=keyed_generator(job.seed, "quality", job.prompt)).images[0]  # fmt: skip
        assert close(frames[0], expected)
    with pytest.raises(ValueError, match="for our own families"):
        PipelineSampler(pipeline, protocol(seed_mode="sequential"))


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """A run folder with one checkpoint, and its exports, which are the independent way to the same weights."""
    root = tmp_path_factory.mktemp("run")
    config = ImageConfig(
        run="where/it/was/trained",
        model=StableDiffusionModel(base=str(base)),
        data=ImageData(source="nowhere", cache="nowhere", height=64, width=64),
        tune=TuneConfig(mode="lora", rank=2, alpha=4),
    )
    adapter = StableDiffusion.load(StableDiffusionModel(base=str(base)), torch.float32)
    tune_lora(adapter.denoiser, adapter.lora_targets["all"], 2, 4)
    torch.manual_seed(0)
    for parameter in adapter.denoiser.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape)
    checkpoint = root / "run" / "checkpoints" / "update-000006"
    checkpoint.mkdir(parents=True)
    save_file(trainable_state(adapter.denoiser), checkpoint / "policy.safetensors")
    save_text(checkpoint / "progress.json", '{"update": 6, "skipped": 0, "format": 1}')
    save_text(root / "run" / "config.yaml", resolved_yaml(config))
    write_lora(adapter, root / "lora")
    write_full(adapter, root / "full")
    assert POLICY
    return root


@pytest.mark.slow
def test_run_lora_and_other_unet_are_the_same_model(base, trained):
    moved = shutil.copytree(trained / "run", trained / "moved", dirs_exist_ok=True)
    given = [
        f"run={moved}@6", f"latest={trained / 'run'}", f"lora={base}+{trained / 'lora'}",
        f"full={trained / 'full'}", f"unet={base}+unet={trained / 'full'}",
    ]  # fmt: skip
    drawn = {spec.name: load_sampler(spec, protocol(), CPU, "float32").draw(jobs()[:2]) for spec in parse_models(given)}
    for name, frames in drawn.items():
        assert close(frames, drawn["full"]), name
    plain = load_sampler(parse_model(f"base={base}"), protocol(), CPU, "float32").draw(jobs()[:2])
    assert not close(plain, drawn["full"])
    start = load_sampler(parse_model(f"start={trained / 'run'}@base"), protocol(), CPU, "float32").draw(jobs()[:2])
    assert close(start, plain)


def test_models_that_do_not_fit_say_so(base, trained, tmp_path):
    clips = with_changes(PROTOCOLS["smoke-video"], {"height": 64, "width": 64})
    for text, wanted, message in [
        (f"a={trained / 'run'}", clips, "is a run on images"),
        (f"a={base}", clips, r"is an image model .* add \+motion=PLACE"),
        (f"a={base}+motion={base}", protocol(), "motion= is for video"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_sampler(parse_model(text), wanted, CPU, "float32")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint '7'"):
        load_sampler(parse_model(f"a={trained / 'run'}@7"), protocol(), CPU, "float32")


@pytest.mark.parametrize(
    ("text", "message"),
    [("nothing", "should be name=PLACE"), ("=x", "should be"), ("a=b/c+foo=d", "foo=d"), ("a=", "should be")],
)
def test_models_are_written_in_one_way(text, message):
    with pytest.raises(ValueError, match=message):
        parse_model(text)


def test_models_parse_into_their_parts():
    spec = parse_model("my model=a/b@v2+lora=c/d+motion=e/f")
    assert spec == ModelSpec("my model", "a/b", "v2", (("lora", "c/d"), ("motion", "e/f")))
    assert spec.place == "a/b@v2+lora=c/d+motion=e/f"
    assert parse_model("x=a/b+c/d").part("lora") == "c/d"
    with pytest.raises(ValueError, match="names 'x' twice"):
        parse_models(["x=a/b", "x=c/d"])


def test_a_fingerprint_follows_the_weights_and_the_settings(base, trained, tmp_path):
    prompts = PromptSet("smoke-image", tuple(PROMPTS), 5)
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)

    def fingerprint(text, device="cpu", dtype="float32", prompts=prompts, **changes):
        spec = parse_model(text)
        return entry_of(spec, identity_of(spec), protocol(**changes), prompts, device, dtype).fingerprint

    plain = fingerprint(f"a={base}")
    # a name or a place is no difference, nor which seeds or how many prompts are drawn
    assert fingerprint(f"other={copy}") == plain
    assert fingerprint(f"a={base}", seeds=(5, 6)) == plain
    few = PromptSet("smoke-image", tuple(PROMPTS[:2]), 2)
    assert fingerprint(f"a={base}", prompts=few) == plain
    others = [
        fingerprint(f"a={base}", steps=4), fingerprint(f"a={base}", dtype="float16"),
        fingerprint(f"a={base}", device="cuda"), fingerprint(f"a={base}", seed_mode="sequential"),
        fingerprint(f"a={base}", seed_mode="sequential", prompts=few), fingerprint(f"a={base}+{trained / 'lora'}"),
        fingerprint(f"a={trained / 'run'}"), fingerprint(f"a={trained / 'run'}@base"),
        fingerprint(f"a={trained / 'full'}"),
    ]  # fmt: skip
    assert len({plain, *others}) == len(others) + 1
    with (copy / "unet" / "diffusion_pytorch_model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x01\x02\x03\x04")
    assert fingerprint(f"a={copy}") != plain
    with pytest.raises(FileNotFoundError, match="hub id"):
        content_of("not a place")


def test_adapters_are_used_where_the_family_is_known(base):
    assert isinstance(load_sampler(ModelSpec("b", str(base)), protocol(), CPU, "float32"), AdapterSampler)
