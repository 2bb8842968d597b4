"""Every YAML in configs/ and every command in its header and in the README fits the schema."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from seppo_core.cli import parse
from seppo_core.config_file import load_config
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig

ROOT = Path(__file__).parents[1]
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
def test_config_loads(path):
    load_config(ROOT / path, schema_of(path))


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_header_says_how_to_run_it(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = path.read_text().splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    for word in ("Hardware:", "Hours:", "Expected"):
        assert word in header
    commands = [
        found for line in lines if line.startswith("#   ") for found in [command_line(line.lstrip("# "))] if found
    ]
    assert [arguments[:2] for _, arguments in commands] == [["prepare", str(path)], ["train", str(path)]]
    for program, arguments in commands:
        assert SCHEMAS[program] is schema_of(path)
        assert parse(arguments, program, SCHEMAS[program]) is not None
    assert len(lines) - header.count("\n") - 1 <= 25, "a config says only what differs from the defaults"


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documented_commands_parse(document, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    if not Path(document).is_file():
        pytest.skip(f"no {document}")
    for line in shell_lines(Path(document).read_text()):
        found = command_line(line)
        if found:
            program, arguments = found
            assert parse(arguments, program, SCHEMAS[program]) is not None or "--help" in arguments, line


def test_extraction_finds_commands():
    text = "```bash\nmake demo\n$ seppo-image train a.yaml \\\n  --run r  # why\n```\n`seppo-image no`\n"
    found = [command_line(line) for line in shell_lines(text)]
    assert found == [None, ("seppo-image", ["train", "a.yaml", "--run", "r"])]
    assert command_line("accelerate launch --num_processes 2 -m seppo_video train b.yaml") == (
        "seppo_video",
        ["train", "b.yaml"],
    )


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
