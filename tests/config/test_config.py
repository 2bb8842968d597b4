"""What a config file may hold, and the one line that refuses what it may not."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from seppo_core.config.loader import config_differences, key_types, load_config, resolved_yaml
from seppo_core.config.method import MethodConfig
from seppo_core.config.methods.kto import KtoConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.monitoring import HealthConfig
from seppo_core.config.options import ExportRequest, SampleRequest, check_export
from seppo_core.config.schema import check_supervision
from seppo_core.config.training import LoopConfig, OptimizerConfig
from seppo_image.config import ImageConfig, ImageData, ImageModel
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_video.config import VideoConfig, VideoModel

LEAST = "run: r\nmodel: {base: a/b}\ndata: {source: s, cache: c}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str, schema: type = ImageConfig) -> str:
    with pytest.raises(ValueError) as error:
        load_config(write(folder, text), schema)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(folder / "x.yaml"))
    return message.removeprefix(str(folder / "x.yaml")).removeprefix(": ")


def test_least_config_takes_defaults(tmp_path):
    config = load_config(write(tmp_path, LEAST), ImageConfig)
    assert config == ImageConfig(
        run="r", model=StableDiffusionModel(base="a/b"), data=ImageData(source="s", cache="c", height=512, width=512)
    )
    assert (config.loop.iterations, config.loop.updates_per_iteration, config.loop.batch_size) == (7, 30, 2048)
    assert (config.method.name, config.method.beta) == ("seppo", 2000)


def test_values_reach_their_keys_with_their_types(tmp_path):
    text = LEAST + (
        "optimizer: {lr: 1e-5, betas: [0.8, 0.99], max_grad_norm: null}\nmethod: {flipper: off, beta: 5000}\n"
        "loop: {mixed_precision: no}\npreview: {prompts: [a fox, 'a # b']}\ntune:\n"
    )
    config = load_config(write(tmp_path, text), ImageConfig)
    # YAML 1.1 takes 1e-5 for a text, and off and no for false
    assert config.optimizer.lr == 0.00001
    assert (config.method.flipper, config.loop.mixed_precision) == ("off", "no")
    assert config.optimizer.betas == (0.8, 0.99)
    assert config.optimizer.max_grad_norm is None
    assert config.preview.prompts == ("a fox", "a # b")
    assert isinstance(config.method.beta, float)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("loop: {itertions: 3}", "loop.itertions is not a key; did you mean loop.iterations?"),
        ("lop: {iterations: 3}", "lop is not a key; did you mean loop?"),
        ("loop: {lr: 3}", "loop.lr is not a key; did you mean optimizer.lr?"),
        ("batch_size: 3", "batch_size is not a key; did you mean reference_samples.batch_size or loop.batch_size or"),
        ("tune: {zzz: 3}", "tune.zzz is not a key; tune has mode, scope, rank, alpha"),
        ("loop: {iterations: 3.5}", "loop.iterations=3.5 should be a whole number"),
        ("loop: {iterations: [1]}", "loop.iterations=[1] should be a whole number"),
        ("loop: {iterations: {a: 1}}", "loop.iterations={'a': 1} should be a whole number"),
        ("loop: {iterations: true}", "loop.iterations=true should be a whole number"),
        ("optimizer: {lr: fast}", "optimizer.lr='fast' should be a number"),
        ("optimizer: {lr: null}", "optimizer.lr=null should be a number"),
        ("optimizer: {betas: [1]}", "optimizer.betas=[1] should be a list of 2 numbers"),
        ("preview: {prompts: a fox}", "preview.prompts='a fox' should be a list of texts"),
        ("loop: 3", "loop=3 should be a section with the keys iterations, "),
        (
            "method: {flipper: sgn}",
            "method.flipper='sgn' should be one of sign, indicator, off; did you mean sign?",
        ),
        ("tune: {scope: motion}", "tune.scope=motion should be all for stable-diffusion"),
        ("tune: {scope: heads}", "tune.scope='heads' should be one of all, motion, spatial"),
        (
            "seed: ${loop.updates_per_iteration}",
            "seed='${loop.updates_per_iteration}' refers to another key, which is not supported",
        ),
        ("run: other", ", line 4: found duplicate key run"),
        ("seed: [3", ", line "),
        ("method: {name: sepo}", "method.name='sepo' should be one of "),
        ("method: {name: sft, noise: shared}", "method.noise='shared' has no meaning for method.name=sft"),
        ("method: {name: dpo, flipper: sgn}", "method.flipper='sgn' has no meaning for method.name=dpo"),
        ("method: {name: sft, beta: 5}", "method.beta=5 has no meaning for method.name=sft"),
        ("method: {name: sft, bta: 5}", "method.bta is not a key; method has name, "),
        ("preview: {every: 5}", "preview.every=5 needs preview.prompts"),
    ],
)
def test_refuses_in_one_line(tmp_path, lines, expected):
    assert refusal(tmp_path, LEAST + lines).startswith(expected)


def test_names_all_that_does_not_fit_at_once(tmp_path):
    lines = "loop: {itertions: 3, batch_size: many}\nmetod: {name: sft}\noptimizer: {lr: fast}"
    message = refusal(tmp_path, LEAST + lines)
    assert message == (
        "loop.itertions is not a key; did you mean loop.iterations?; metod is not a key; did you mean method?; "
        "loop.batch_size='many' should be a whole number; optimizer.lr='fast' should be a number"
    )


def test_names_all_missing_keys_at_once(tmp_path):
    message = refusal(tmp_path, "run: r\ndata: {source: s}")
    assert message == "model.base, data.cache are missing; add to the file or pass --model.base ... --data.cache ..."


@pytest.mark.parametrize("text", ["- 1\n- 2", "just words", "3"])
def test_refuses_what_holds_no_keys(tmp_path, text):
    refusal(tmp_path, text)


def test_refuses_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not a YAML file"):
        load_config(path, ImageConfig)


def test_missing_file_names_a_similar_one(tmp_path):
    path = write(tmp_path, LEAST)
    with pytest.raises(FileNotFoundError, match=f"did you mean {path}"):
        load_config(tmp_path / "xx.yaml", ImageConfig)
    with pytest.raises(ValueError, match="is a folder"):
        load_config(tmp_path, ImageConfig)
    with pytest.raises(FileNotFoundError, match="neither does the folder"):
        load_config(tmp_path / "no" / "x.yaml", ImageConfig)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoopConfig(updates_per_iteration=0), r"loop.updates_per_iteration=0 must be at least 1"),
        (lambda: LoopConfig(batch_size=10, micro_batch_size=4), r"loop.batch_size=10 is not a multiple .* use e.g. 8"),
        (lambda: OptimizerConfig(lr=0), r"optimizer.lr=0 must be greater than 0"),
        (lambda: OptimizerConfig(lr=float("nan")), r"optimizer.lr=nan must be greater than 0"),
        (lambda: OptimizerConfig(betas=(0.9, 1.0)), r"optimizer.betas=\[0.9, 1.0\] must lie in \[0, 1\)"),
        (lambda: SeppoConfig(beta=-1), r"method.beta=-1 must be greater than 0"),
        (lambda: SeppoConfig(beta=float("inf")), r"method.beta=inf must be greater than 0"),
        (lambda: SeppoConfig(reference="latest", pool_window=2), r"method.pool_window=2 has no meaning"),
        (lambda: SeppoConfig(flipper="off", anchor_draws=2), r"method.flipper=off"),
        (lambda: SeppoConfig(guard=1.0), r"method.guard=1.0 must lie in \[0, 1\)"),
        (lambda: SeppoConfig(guard=0.5, guard_scope="batch"), r"method.guard_scope=batch needs one sign .*flipper=off"),
        (lambda: SeppoConfig(guard_scope="batch"), r"method.guard_scope=batch has no meaning without method.guard"),
        (lambda: KtoConfig(kto_weights=(0.0, 0.0)), r"must not be negative, nor both 0"),
        (lambda: LoopConfig(sharded=True, offload_reference=True), r"loop.offload_reference=true .* loop.sharded=true"),
        (lambda: OptimizerConfig(ema_decay=1.0), r"optimizer.ema_decay=1.0 must lie in \(0, 1\)"),
        (lambda: SeppoConfig(min_snr_gamma=0), r"method.min_snr_gamma=0 must be greater than 0"),
        (lambda: ImageData(source="s", cache="c", caption_dropout=1.5), r"data.caption_dropout=1.5 is a share"),
        (lambda: SampleRequest(prompts=("a",), prompt_file="f"), r"both given"),
        (lambda: SampleRequest(seeds=()), r"--seeds is empty"),
        (lambda: SampleRequest(steps=0), r"--steps 0 must be at least 1"),
    ],
)
def test_checks_ranges(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def least(**sections) -> ImageConfig:
    return ImageConfig(
        run="r", model=StableDiffusionModel(base="a/b"), data=ImageData(source="s", cache="c"), **sections
    )


def test_checks_keys_against_each_other():
    with pytest.raises(ValueError, match=r"warmup_updates=60 .* 60 updates .* at most 59"):
        least(loop=LoopConfig(iterations=2), optimizer=OptimizerConfig(warmup_updates=60))
    once = LoopConfig(iterations=60, updates_per_iteration=1)
    with pytest.raises(ValueError, match=r"loop\.updates_per_iteration=1 with method\.reference=latest"):
        least(loop=once, method=SeppoConfig(reference="latest"))
    least(loop=once, method=SeppoConfig(reference="initial"))
    with pytest.raises(ValueError, match="flow-matching models; stable-diffusion needs uniform and 1"):
        least(method=SeppoConfig(timestep_shift=3.0))


@pytest.mark.parametrize(
    ("method", "serve"),
    [("seppo", "winners pairs"), ("sft", "winners pairs"), ("dpo", "pairs"), ("mapo", "pairs"), ("kto", "labels")],
)
def test_what_is_cached_is_what_the_method_learns_from(method, serve):
    for form in ("winners", "pairs", "labels"):
        config = least(method=MethodConfig.variants()[method]())
        config = replace(config, data=replace(config.data, supervision=form))
        if form in serve.split():
            check_supervision(config)
            continue
        needed = serve.split()[0]
        with pytest.raises(
            ValueError, match=f"{method} learns from {needed}, .* data.supervision={form} .* data.supervision={needed}"
        ):
            check_supervision(config)


def test_checks_what_can_be_exported():
    check_export(least(), ExportRequest())
    with pytest.raises(ValueError, match="--kind motion does not exist for this model; use lora or full"):
        check_export(least(), ExportRequest(kind="motion"))
    with pytest.raises(ValueError, match=r"--kind lora needs a run with tune.mode=lora"):
        check_export(least(), ExportRequest(kind="lora"))


@pytest.mark.parametrize("schema", [ImageConfig, VideoConfig])
def test_resolved_yaml_reads_back(tmp_path, schema):
    text = LEAST + (
        "method: {flipper: 'off'}\noptimizer: {lr: 1e-7, betas: [0, 0.5]}\n"
        "preview: {prompts: ['no', '1e-5', 'a: b # c', \"it's\", '', 'ünï']}\n"
    )
    config = load_config(write(tmp_path, text), schema)
    assert load_config(write(tmp_path, resolved_yaml(config)), schema) == config


def test_differences_name_key_and_values():
    before = least()
    after = replace(before, run="q", seed=1, loop=replace(before.loop, updates_per_iteration=20))
    assert config_differences(before, before) == []
    assert config_differences(before, after) == ["run: r -> q", "seed: 0 -> 1", "loop.updates_per_iteration: 30 -> 20"]
    assert config_differences(before, after, ignore=("run", "loop")) == ["seed: 0 -> 1"]
    assert config_differences(before, after, ignore=("run", "loop.updates_per_iteration")) == ["seed: 0 -> 1"]


def test_configs_are_frozen():
    with pytest.raises(AttributeError):
        least().run = "other"


@pytest.mark.parametrize("schema", [ImageConfig, VideoConfig])
def test_keys_are_pinned(schema):
    """A key that disappears breaks somebody's file: rename with care and say so in the changelog."""
    video = schema is VideoConfig
    keys = {
        "": "run seed draws",
        "model": "family base single_file_config revision variant vae lora dtype quantize offload "
        "quantize_text" + " fps" * video,
        "data": "source cache height width format supervision pick root caption_column first_column second_column "
        "label_column split subset revision streaming expected_rows expected_sha256 max_file_mb workers prefetch flip "
        "caption_dropout posterior validation validation_cache encode_batch_size vae_tiling cache_dtype "
        "max_rejected_share" + " frames sampling stride reader" * video,
        "method": "name min_snr_gamma timestep_density timestep_shift",
        "reference_samples": "scheduler steps guidance_scale guidance_interval batch_size uses repeat_after reencode",
        "tune": "mode scope rank alpha",
        "loop": "iterations updates_per_iteration batch_size micro_batch_size mixed_precision sharded "
        "context_parallel offload_reference gradient_checkpointing checkpointing_share offload_activations "
        "reference_draws deterministic attention compile validate_every validate_items checkpoint_every "
        "keep_checkpoints keep_every keep_best judge judge_samples judge_column judge_places",
        "optimizer": "name fused lr betas eps weight_decay max_grad_norm schedule warmup_updates ema_decay",
        "preview": "prompts every per_prompt seed scheduler steps guidance_scale judge judge_column judge_places "
        "judged_per_prompt batch_size",
        "health": "window non_finite non_finite_updates winner_error winner_error_rise held_out held_out_rise margin "
        "margin_limit constant_sign sample_collapse sample_collapse_share",
        "log": "wandb",
    }
    assert list(key_types(schema)) == [f"{s}.{n}".removeprefix(".") for s, line in keys.items() for n in line.split()]
    assert [f.name for f in fields(schema)] == ["run", "seed", "draws", *list(keys)[1:]]


METHOD_KEYS = {
    "sft": "",
    "seppo": "noise guard guard_scope sft_weight beta reference pool_window anchor_draws anchor_scope flipper",
    "sspo": "noise guard guard_scope sft_weight beta reference pool_window anchor_draws anchor_scope",
    **dict.fromkeys(("dpo", "spin", "ditto", "gt_pair"), "noise guard guard_scope sft_weight beta"),
    "dro": "noise guard guard_scope sft_weight margin sampled_from",
    "mapo": "noise guard guard_scope beta",
    "poly_dpo": "noise guard guard_scope sft_weight beta alpha",
    "dspo": "beta",
    "kto": "beta kto_weights",
    "nft": "beta normalise reward_clip old_decay old_decay_rise",
}


def test_the_keys_of_every_method_are_pinned():
    assert METHOD_KEYS.keys() == MethodConfig.variants().keys()


@pytest.mark.parametrize("name", METHOD_KEYS)
def test_keys_of_a_method_are_pinned(name):
    common = [field.name for field in fields(MethodConfig)]
    assert [field.name for field in fields(MethodConfig.variants()[name])] == [*common, *METHOD_KEYS[name].split()]


FAMILY_KEYS = {
    "stable-diffusion": "",
    "sdxl": "",
    "sd3": "t5 text_tokens",
    "flux": "text_tokens training_guidance",
    "sana": "text_tokens",
    "pixart-sigma": "text_tokens",
    "qwen-image": "text_tokens",
    "animatediff": "motion_adapter schedule",
    "animatediff-sdxl": "motion_adapter schedule",
    "cogvideox": "",
    "hunyuan": "text_tokens training_guidance",
    "ltx": "text_tokens",
    "wan": "text_tokens flow_shift",
}


def test_keys_of_a_family_are_pinned():
    for name, keys in FAMILY_KEYS.items():
        section = ImageModel if name in ImageModel.variants() else VideoModel
        common = [field.name for field in fields(section)]
        assert [field.name for field in fields(section.variants()[name])] == [*common, *keys.split()]


@pytest.mark.parametrize("name", ["seppo", "sspo", "sft", "dpo", "spin", "ditto", "mapo", "kto"])
def test_a_resolved_config_of_an_older_version_loads_as_the_same_config(tmp_path, name, recwarn):
    """It lists every key of every method under its old name, with null for what the method chooses itself."""
    old = {
        "method": f"name: {name}\nbeta: null\nflipper: null\nreference: null\nremember: null\nanchor_draws: 0\n"
        "anchor_per: sample\nguard: null\nsft_weight: 0.0\nkto_weights: [1.0, 1.0]\nnoise: independent\n"
        "min_snr_gamma: null\ntimestep_density: uniform\ntimestep_shift: 1.0",
        "loop": "updates: 20",
        "health": "sign: 'off'\ncollapse: stop\ncollapse_share: 0.25",
    }
    text = "run: r\nmodel: {base: a/b}\ndata: {source: s, cache: c, form: pairs, winner: winner}\n"
    text += "".join(f"{section}:\n  " + lines.replace("\n", "\n  ") + "\n" for section, lines in old.items())
    config = load_config(write(tmp_path, text), ImageConfig)
    assert "method.remember is now method.pool_window" in str(recwarn.pop(FutureWarning).message)
    expected = least(
        method=MethodConfig.variants()[name](),
        loop=LoopConfig(updates_per_iteration=20),
        health=HealthConfig(constant_sign="off", sample_collapse="stop", sample_collapse_share=0.25),
    )
    assert config == replace(expected, data=replace(expected.data, supervision="pairs"))
    assert config_differences(config, config) == []
    assert load_config(tmp_path / "x.yaml", ImageConfig, warn=False) == config
    assert not recwarn.list


def test_a_key_by_its_old_and_its_new_name_is_refused(tmp_path):
    assert refusal(tmp_path, LEAST + "loop: {updates: 3, updates_per_iteration: 3}").startswith(
        "loop.updates is the old"
    )


def test_overrides_choose_the_method_and_replace_values(tmp_path):
    path = write(tmp_path, LEAST + "method: {beta: 10}\n")
    assert load_config(path, ImageConfig, {"method.name": "kto", "method.beta": 3}).method == KtoConfig(beta=3)
    with pytest.raises(ValueError, match=r"^method\.beta='x'"):
        load_config(path, ImageConfig, {"method.beta": "x"})
