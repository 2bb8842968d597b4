"""The command line: what it parses, what it prints, what it refuses, and that it imports nothing heavy."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from seppo_core.cli.main import COMMANDS, REQUESTS, parse, run
from seppo_core.config.keys import key_types
from seppo_core.config.options import (
    ExportRequest,
    PlanRequest,
    PrepareRequest,
    RankRequest,
    SampleRequest,
    TrainRequest,
    VerifyRequest,
)
from seppo_core.config.training import LoopConfig
from seppo_core.io.locks import FolderLock
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig

LEAST = "run: r\nmodel: {base: a/b}\ndata: {source: s, cache: c}\noptimizer: {lr: 1e-6}\n"


@pytest.fixture
def config(tmp_path, monkeypatch) -> str:
    """A config's name, in a current folder that has all that the config names."""
    monkeypatch.chdir(tmp_path)
    for name in ("r", "s", "c"):
        Path(name).mkdir()
    Path("s/metadata.jsonl").touch()
    Path("x.yaml").write_text(LEAST)
    # no weights are loaded: it is enough that they might be
    monkeypatch.delenv("HF_HUB_OFFLINE")
    return "x.yaml"


@pytest.fixture
def calls(monkeypatch) -> list:
    """What the commands are called with."""
    recorded = []
    module = types.ModuleType("recording_commands")
    results = {"plan": types.SimpleNamespace(fits=True)} | dict.fromkeys(("sample", "rank", "export"), Path("out"))
    for name in REQUESTS:
        setattr(module, name, lambda *arguments, name=name: recorded.append((name, *arguments)) or results.get(name))
    monkeypatch.setitem(sys.modules, "recording_commands", module)
    # it is called by itself, since the modules of commands import torch
    monkeypatch.setattr("seppo_core.plan.report.print_plan", module.plan)
    return recorded


def image(*argv: str) -> int:
    return run(list(argv), "seppo-image", ImageConfig, "recording_commands")


def refused(capsys, *argv: str) -> str:
    assert image(*argv) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err.strip().removeprefix("seppo-image: ")


def test_commands_are_pinned():
    expected = "init plan prepare verify train sample rank export status compare doctor"
    assert list(COMMANDS) == expected.split()


def test_every_command_gets_its_config_and_request(config, calls):
    for command in REQUESTS:
        assert image(command, config, *(["--judge", "pickscore"] * (command == "rank"))) == 0
    plan, (_, parsed, prepare), verify, train, sample, rank, export = calls
    assert parsed.run == "r"
    assert prepare == PrepareRequest() and verify == ("verify", parsed, VerifyRequest())
    assert plan == ("plan", parsed, PlanRequest())
    assert train == ("train", parsed, TrainRequest())
    assert sample == ("sample", parsed, SampleRequest())
    assert rank == ("rank", parsed, RankRequest(judge="pickscore"))
    assert export == ("export", parsed, ExportRequest())


def test_options_override_the_file(config, calls):
    options = "--loop.iterations 5 --data.flip true --tune.alpha null --optimizer.betas 0.5 0.6 --optimizer.lr=1e-4"
    assert image("train", config, *options.split(), "--preview.prompts", "a fox", "--x", "--run", "r") == 2
    assert (
        image("train", config, *options.split(), "--preview.prompts", "a fox", "b", "--loop.micro-batch-size", "2") == 0
    )
    parsed = calls[0][1]
    assert (parsed.loop.iterations, parsed.data.flip, parsed.tune.alpha) == (5, True, None)
    assert (parsed.optimizer.betas, parsed.optimizer.lr) == ((0.5, 0.6), 1e-4)
    assert (parsed.preview.prompts, parsed.loop.micro_batch_size) == (("a fox", "b"), 2)


def test_request_options(config, calls):
    options = ["--prompts", "a fox", "two", "--seeds", "3", "4", "--checkpoint", "base", "--out", "o", "--steps", "9"]
    more = ["--guidance-scale", "2", "--batch_size", "1", "--scheduler", "ddim"]
    assert image("sample", config, *options, *more) == 0
    assert calls[0][2] == SampleRequest(
        prompts=("a fox", "two"), seeds=(3, 4), checkpoint="base", out="o", steps=9, guidance_scale=2.0, batch_size=1,
        scheduler="ddim",
    )  # fmt: skip
    assert image("export", config, "--kind", "full", "--checkpoint", "30", "--out", "o") == 0
    assert calls[1][2] == ExportRequest(kind="full", checkpoint="30", out="o")


def test_an_option_gives_a_missing_key_and_cures_a_bad_value(config, calls):
    Path(config).write_text("model: {base: a/b}\ndata: {source: s, cache: c}\noptimizer: {lr: -1}\n")
    assert image("train", config, "--run", "r", "--optimizer.lr", "1e-3") == 0
    assert (calls[0][1].run, calls[0][1].optimizer.lr) == ("r", 1e-3)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["trian", "x.yaml"], "trian is not a command; did you mean train?"),
        (
            ["zzz"],
            "zzz is not a command; use init, plan, prepare, verify, train, sample, rank, export, status, compare",
        ),
        (["train"], "train needs a config file: seppo-image train CONFIG.yaml; init writes one"),
        (["train", "y.yaml"], "y.yaml does not exist; did you mean x.yaml?"),
        (["train", "x.yaml", "y.yaml"], "y.yaml follows the config file but is not an option"),
        (["train", "x.yaml", "--loop.itertions", "3"], "loop.itertions is not a key; did you mean loop.iterations?"),
        (["train", "x.yaml", "--lr", "3"], "lr is not a key; did you mean optimizer.lr?"),
        (["train", "x.yaml", "--steps", "3"], "steps is not a key; did you mean reference_samples.steps or preview"),
        (["sample", "x.yaml", "--promps", "a"], "--promps is not an option of sample; did you mean --prompts?"),
        (["train", "x.yaml", "--loop.iterations", "many"], "loop.iterations='many' should be a whole number"),
        (["train", "x.yaml", "--loop.iterations"], "loop.iterations='' should be a whole number"),
        (["train", "x.yaml", "--loop.iterations", "3", "4"], "loop.iterations='3 4' should be a whole number"),
        (["train", "x.yaml", "--data.flip", "maybe"], "data.flip='maybe' should be true or false"),
        (["train", "x.yaml", "--tune.alpha", "x"], "tune.alpha='x' should be a number or null"),
        (["train", "x.yaml", "--optimizer.betas", "1"], "optimizer.betas=['1'] should be a list of 2 numbers"),
        (["train", "x.yaml", "--method.flipper", "sgn"], "method.flipper='sgn' should be one of sign, indicator, off"),
        (["train", "x.yaml", "--method.name", "sepo"], "x.yaml: method.name='sepo' should be one of ditto, "),
        (
            ["train", "x.yaml", "--method.name", "dpo", "--method.anchor_draws", "2"],
            "method.anchor_draws='2' has no meaning for method.name=dpo",
        ),
        (["train", "x.yaml", "--optimizer.lr", "-1"], "x.yaml: optimizer.lr=-1.0 must be greater than 0"),
        (["train", "x.yaml", "--optimizer.warmup_updates", "210"], "x.yaml: optimizer.warmup_updates=210 "),
        (["sample", "x.yaml", "--seeds", "a"], "seeds=['a'] should be a list of whole numbers"),
        (["sample", "x.yaml", "--steps", "0"], "--steps 0 must be at least 1"),
        (["export", "x.yaml", "--kind", "motion"], "--kind motion does not exist for this model; use lora or full"),
    ],
)
def test_refuses_in_one_line(config, calls, capsys, argv, expected):
    assert refused(capsys, *argv).startswith(expected)
    assert calls == []


@pytest.mark.parametrize(
    ("command", "options", "expected"),
    [
        ("prepare", ["--data.source", "q/s"], "data.source=q/s is not a folder; put files and metadata"),
        ("prepare", ["--model.base", "./base"], "model.base=./base does not exist"),
        ("train", ["--model.base", "cc/base"], None),
        ("train", ["--model.base", "c/base"], "model.base=c/base does not exist"),
        ("train", ["--model.vae", "one/two/three"], "model.vae=one/two/three does not exist"),
        ("train", ["--model.lora", "./x.yml"], "model.lora=./x.yml does not exist; did you mean x.yaml?"),
        ("train", ["--data.cache", "cache"], "data.cache=cache is not a folder; run `prepare` with the same config"),
        ("train", ["--data.source", "cache"], None),
        ("sample", ["--run", "q"], "run=q is not a folder; run `train` with the same config first"),
        ("sample", ["--run", "q", "--checkpoint", "base"], None),
        ("sample", ["--prompt_file", "x.yam"], "--prompt_file x.yam does not exist; did you mean x.yaml?"),
        ("sample", ["--run", "q", "--checkpoint", "base", "--prompts", "a fox", "x.yaml"],
         "--prompts x.yaml is a file"),
        ("rank", ["--run", "q", "--checkpoint", "base", "--judge", "m:f", "--prompts", "x.yaml"],
         "--prompts x.yaml is a file; read its lines with --prompt_file x.yaml"),
        ("rank", ["--run", "q", "--checkpoint", "base", "--judge", "m:f", "--prompts", "cc"], None),
        ("export", ["--run", "q"], "run=q is not a folder"),
    ],
)  # fmt: skip
def test_checks_the_paths_that_a_command_reads(config, calls, capsys, command, options, expected):
    if expected is None:
        assert image(command, config, *options) == 0
        assert len(calls) == 1
    else:
        assert refused(capsys, command, config, *options).startswith(expected)


def test_a_run_that_another_trains_in_is_refused_before_anything_is_loaded(config, calls, capsys, monkeypatch):
    with FolderLock(Path("r")):
        assert refused(capsys, "train", config).startswith("r is being trained in by another process (process ")
        assert not calls
        assert image("sample", config) == 0
        # of several processes the first may hold it for all
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert image("train", config) == 0
    monkeypatch.delenv("WORLD_SIZE")
    assert image("train", config) == 0


def test_changes_are_accepted_by_the_keys_of_every_method_and_by_their_old_names(config, calls, capsys):
    names = ["method.name", "method.flipper", "method.remember", "winners"]
    assert image("train", config, "--method.name", "dpo", "--accept_changes", *names) == 0
    assert calls[0][2].accept_changes == ("method.name", "method.flipper", "method.pool_window", "winners")
    assert refused(capsys, "train", config, "--accept_changes", "method.fliper").endswith(
        "did you mean method.flipper?"
    )


def test_a_base_that_is_not_in_the_cache_is_told_at_once_where_the_hub_may_not_be_asked(
    config, calls, capsys, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("seppo_core.config.base_files._HUB", Path("hub"))
    told = refused(capsys, "prepare", config)
    assert told.startswith("model.base=a/b is not in the cache (hub) and HF_HUB_OFFLINE is set; ")
    assert "`hf download a/b`" in told and "give model.base a folder" in told
    # which asks for no weights
    assert image("plan", config) == 0
    Path("hub/models--a--b/snapshots/1234").mkdir(parents=True)
    assert image("prepare", config) == 0
    assert [call[0] for call in calls[1:]] == ["prepare"]


def test_a_run_s_folder_calls_its_config_wherever_it_lies_now(config, calls, capsys):
    Path("r/config.yaml").write_text(LEAST)
    assert image("sample", "r") == 0
    assert calls[0][1].run == "r"
    assert "next: seppo-image export r/config.yaml;" in capsys.readouterr().out
    Path("r").rename("moved")
    assert image("sample", "moved") == 0
    assert calls[1][1].run == "moved"
    assert "export moved/config.yaml --run moved;" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["sdxl_lora_seppo", "configs/image/sdxl_lora_seppo.yaml", "sdxl_lora_sepo"])
def test_the_name_of_a_recipe_is_answered_with_the_way_to_a_config(config, calls, capsys, name):
    told = refused(capsys, "prepare", name)
    assert told.startswith(f"{name} is no file here; the recipe sdxl_lora_seppo is a config to begin with: ")
    assert "`seppo-image init mine --recipe sdxl_lora_seppo --data FOLDER` writes mine.yaml" in told
    assert "`seppo-video init mine --recipe wan21_1_3b_lora_seppo`" in refused(capsys, "plan", "wan21_1_3b_lora_seppo")
    assert refused(capsys, "plan", "some/folder/sdxl_lora_seppo").endswith("neither does the folder some/folder")


def test_video_checks_its_motion_adapter(config, calls, capsys):
    options = ["train", config, "--model.motion_adapter", "./motion"]
    assert run(options, "seppo-video", VideoConfig, "recording_commands") == 2
    assert "model.motion_adapter=./motion does not exist" in capsys.readouterr().err
    invocation = parse(["export", config, "--kind", "motion"], "seppo-video", VideoConfig)
    assert invocation.request.kind == "motion"


def test_values_and_files_are_one_line_and_bugs_keep_their_traceback(config, calls, capsys, monkeypatch):
    def wrong_value(*_):
        LoopConfig(iterations=0)

    def bug(*_):
        LoopConfig(iteration=0)

    monkeypatch.setattr(sys.modules["recording_commands"], "train", wrong_value)
    assert refused(capsys, "train", config) == "loop.iterations=0 must be at least 1"
    monkeypatch.setenv("SEPPO_TRACEBACK", "1")
    with pytest.raises(ValueError, match=r"loop\.iterations=0"):
        image("train", config)
    monkeypatch.delenv("SEPPO_TRACEBACK")
    monkeypatch.setattr(sys.modules["recording_commands"], "train", bug)
    with pytest.raises(TypeError):
        image("train", config)


def test_usage_and_version(capsys):
    for argv in ([], ["--help"], ["-h"]):
        assert image(*argv) == 0
        output = capsys.readouterr().out
        assert "seppo-image COMMAND CONFIG.yaml [--section.key value ...]" in output
        assert all(f"\n  {command} " in output for command in COMMANDS)
    assert image("--version") == 0
    assert capsys.readouterr().out.startswith("seppo-image ")


def shown(capsys, *argv: str) -> str:
    assert image(*argv) == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_shows_the_files_values(config, calls, capsys):
    text = shown(capsys, "train", config, "--help")
    assert "Values in brackets are those of x.yaml." in text
    assert "--optimizer.lr FLOAT Learning rate as it is applied." in text
    assert "(default: 1e-06)" in text
    assert (
        "--model.base STR Base model or fine-tune to start from: a Hub id, a local diffusers folder, or one "
        ".safetensors file of a Stable Diffusion 1.x or 2.x, SDXL or Flux. (default: a/b)" in text
    )
    assert "--prompts" not in text
    assert calls == []


def test_help_without_a_file_shows_the_schemas_values(calls, capsys):
    text = shown(capsys, "sample", "--help")
    assert "Name a CONFIG.yaml to see its values." in text
    assert "(default: 1e-05)" in text
    assert "SDXL or Flux. (required)" in text
    assert "--prompt_file {None}|STR Text file with one prompt per line." in text


def test_help_of_an_incomplete_file_marks_what_is_missing(config, capsys):
    Path(config).write_text("run: r\n")
    assert "SDXL or Flux. (required)" in shown(capsys, "train", "x.yaml", "-h")


@pytest.mark.parametrize("schema", [ImageConfig, VideoConfig])
@pytest.mark.parametrize("command", ["train", "sample"])
def test_help_documents_every_key(config, capsys, schema, command):
    assert parse([command, config, "--help"], "seppo", schema) is None
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for key in key_types(schema):
        after = text.partition(f"--{key} ")[2].partition(" --")[0]
        assert len(after.partition("(")[0].split()) > 2, f"{key} has no description"


@pytest.mark.parametrize("package", ["seppo_image", "seppo_video"])
def test_help_and_checks_import_nothing_heavy(config, package):
    """Every command's help, the commands that need no model, and everything that is checked before others begin."""
    program = (
        "import sys\n"
        f"from {package}.__main__ import main\n"
        "from seppo_core.cli.main import COMMANDS, check_paths, parse\n"
        "for command in COMMANDS:\n"
        "    assert main([command, '--help']) == 0\n"
        "assert main(['train', 'x.yaml', '--help']) == 0\n"
        "assert main(['train', 'x.yaml', '--loop.iterations', '0']) == 2\n"
        "assert main(['train', 'x.yaml', '--data.cache', 'missing']) == 2\n"
        "assert main(['init', '--list']) == 0\n"
        "assert main(['status', 'missing']) == 2\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'peft', 'accelerate', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "--loop.iterations INT" in result.stdout
