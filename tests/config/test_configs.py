"""Every YAML in configs/ and every command in its header and in the README fits the schema."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from seppo_core.cli.main import parse
from seppo_core.cli.recipes import planned
from seppo_core.config.gpus import GPUS
from seppo_core.config.loader import load_config
from seppo_image.config import ImageConfig, ImageModel
from seppo_video.config import VideoConfig, VideoModel

ROOT = Path(__file__).parents[2]
SCHEMAS = {
    "seppo-image": ImageConfig,
    "seppo-video": VideoConfig,
    "seppo_image": ImageConfig,
    "seppo_video": VideoConfig,
}
CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml"))


def schema_of(config: Path) -> type:
    """By folder, or in toy/ by the name's first word."""
    return VideoConfig if "video" in (config.parent.name, config.stem.partition("_")[0]) else ImageConfig


def command_line(line: str) -> tuple[str, list[str]] | None:
    """Program and arguments if `line` calls one of ours, directly, by `python -m` or through a launcher."""
    words = shlex.split(line, comments=True)
    # variables of the environment stand before a command
    words = words[next((place for place, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), 0) :]
    if words and words[0] in SCHEMAS:
        return words[0], words[1:]
    if "-m" in words and words[0] in ("python", "accelerate", "torchrun"):
        program, *arguments = words[words.index("-m") + 1 :]
        return (program, arguments) if program in SCHEMAS else None
    return None


def shell_lines(text: str) -> list[str]:
    """Lines of the bash blocks of a Markdown text, continued lines joined."""
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ").strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_header_says_how_to_run_it(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = path.read_text().splitlines()
    commands = [
        found for line in lines if line.startswith("#   ") for found in [command_line(line.lstrip("# "))] if found
    ]
    assert [arguments[:2] for _, arguments in commands] == [["prepare", path.as_posix()], ["train", path.as_posix()]]
    for program, arguments in commands:
        assert SCHEMAS[program] is schema_of(path)
        assert parse(arguments, program, SCHEMAS[program]) is not None


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.parent.name != "toy"], ids=str)
def test_header_says_what_plan_says(path):
    """In words that the tests of `plan` hold against it."""
    header = planned(ROOT / path)
    assert header is not None, "Hardware: … Memory: prepare … GiB, train … GiB. Hours: about … (`plan --gpu …`, …)"
    gpu = GPUS[header.gpu]
    assert header.hardware == f"{'one' if header.gpus == 1 else header.gpus} {gpu.title}"
    assert max(header.prepare, header.train) < gpu.memory_gib


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_config_loads_and_training_of_all_weights_starts_from_unrounded_files(path):
    config = load_config(ROOT / path, schema_of(path))
    assert config.tune.mode == "lora" or config.model.variant is None


def test_every_image_and_video_family_has_a_config():
    configs = [load_config(ROOT / path, schema_of(path)) for path in CONFIGS if path.parent.name in ("image", "video")]
    for schema, model in ((ImageConfig, ImageModel), (VideoConfig, VideoModel)):
        named = {config.model.family for config in configs if isinstance(config, schema)}
        assert named == set(model.variants())
    bases = " ".join(config.model.base for config in configs)
    for base in ("stable-diffusion-3.5", "FLUX.1-dev", "FLUX.1-schnell", "CogVideoX-2b", "CogVideoX-5b", "CogVideoX1.5",
                 "Wan2.1-T2V-1.3B", "Wan2.1-T2V-14B"):  # fmt: skip
        assert base in bases


@pytest.mark.skipif(sys.platform == "win32", reason="the scripts are for a POSIX shell")
@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "launch").iterdir()), ids=lambda path: path.name)
def test_launch_scripts_are_shell_and_name_configs_that_are_there(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    text = path.read_text().replace("\\\n", " ")
    named = re.search(r"CONFIG=\$\{1:-(.*)\}", text).group(1)
    # torchrun takes `--run` for its own without the `--`
    called = [line for line in text.splitlines() if "-m -- seppo_" in line and not line.startswith("#")]
    assert called
    for line in called:
        program, *arguments = shlex.split(
            re.sub(r'"\$\{@:\d\}"', "", line[line.index("-- ") + 3 :].replace('"$CONFIG"', named))
        )
        assert parse(arguments, program, SCHEMAS[program]).config.run
